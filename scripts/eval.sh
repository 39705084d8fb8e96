#!/usr/bin/env bash
# Measures quality on evaluation data that is not shipped. Usage: eval.sh DATA_DIR DATA [flags of serve …]
# docs/EVALUATION.md tells what DATA holds and where it comes from. Sets that are absent are named and left out.
set -euo pipefail
data_dir=${1:?usage: eval.sh DATA_DIR DATA [flags of serve]}
data=${2:-}
shift 2 || shift $#
cd "$(dirname "$0")/.."
trove=target/release/trove
if [ -z "$data" ] || [ ! -d "$data" ]; then
  echo "error: expected a folder of evaluation data, got \"$data\": make eval DATA=dir (see docs/EVALUATION.md)" >&2
  exit 1
fi

store=$(mktemp -d)
for part in runtime models; do ln -s "$(realpath "$data_dir")/$part" "$store/$part"; done
"$trove" serve --data-dir "$store" --listen 127.0.0.1:0 "$@" >"$store/ready" 2>"$store/log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$store"' EXIT
for _ in $(seq 600); do
  grep -q '^listening on ' "$store/ready" && break
  kill -0 "$server" 2>/dev/null || { tail -n 20 "$store/log" >&2; exit 1; }
  sleep 0.2
done
export TROVE_SERVER="http://$(sed -n 's/^listening on //p' "$store/ready")"
"$trove" info

measure() {
  if [ ! -e "$data/$1" ]; then
    printf '\n%s: not in %s, left out\n' "$1" "$data"
    return
  fi
  printf '\n$ trove eval %s\n' "$*"
  "$trove" eval "$data/$1" "${@:2}"
}

measure sts/stsb-dev.tsv
measure scifact
measure stackfaq
measure stackfaq --no-title
measure cranfield
measure cranfield --no-exclude
measure squad2
measure covidqa
measure words/ws353-all.tsv
measure words/wic-train.tsv
# Sets are indexed once, into a collection of their own.
for set in scifact stackfaq cranfield squad2 covidqa; do
  for mode in vector keyword hybrid; do
    measure "$set" --protocol service --collection "$set" --mode "$mode"
  done
  measure "$set" --protocol service --collection "$set" --mode hybrid --rrf-k 60
done
measure scifact --protocol service --collection scifact --mode vector --exact
for set in scifact covidqa; do
  for mode in vector keyword hybrid; do
    measure "$set" --protocol service --collection "$set" --mode "$mode" --unit document
  done
done
