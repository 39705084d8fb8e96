# Two commands do all the set-up: `make demo` and `make test`.
DATA_DIR ?= .trove
PYTHON ?= python3
CARGO ?= cargo

.PHONY: demo test lint fmt models build bench

# Fetches the pinned runtime library and models (SHA-256 checked), builds, indexes demo/ and searches it.
demo: models build
	@bash scripts/demo.sh "$(DATA_DIR)"

# Everything the tests need, then all tests.
test: models
	$(CARGO) test --locked

# Speeds on this machine; docs/BENCHMARKS.md says what the options are and what was measured.
bench: models
	$(CARGO) bench --locked --bench encoder
	$(CARGO) bench --locked --bench ingest
	$(CARGO) bench --locked --bench search
	$(CARGO) bench --locked --bench hot

models:
	@$(PYTHON) scripts/fetch.py --data-dir "$(DATA_DIR)"

build:
	$(CARGO) build --release --locked

lint:
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

fmt:
	$(CARGO) fmt
