#!/bin/sh
# Cargo's RUSTC_WORKSPACE_WRAPPER of `make fuzz`: lets the library, and nothing else, count the edges that it takes and
# tell what it compares. fuzz/coverage.rs has the functions that it then calls.
case " $* " in
*" --crate-name trove "*" --crate-type lib "*)
    exec "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 \
        -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$@"
