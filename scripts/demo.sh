#!/usr/bin/env bash
# Starts the server, indexes demo/ and runs a few searches. Usage: demo.sh DATA_DIR
set -euo pipefail
data_dir=${1:-.trove}
port=${TROVE_DEMO_PORT:-7700}
trove=target/release/trove
log="$data_dir/demo-server.log"
export TROVE_SERVER="http://127.0.0.1:$port"

"$trove" serve --data-dir "$data_dir" --listen "127.0.0.1:$port" 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true' EXIT
for _ in $(seq 150); do
  "$trove" info >/dev/null 2>&1 && break
  kill -0 "$server" 2>/dev/null || { cat "$log"; exit 1; }
  sleep 0.2
done

show() { echo; echo "\$ trove $*"; "$trove" "$@"; }
show info
show index demo --collection demo
show search "how do I undo the last commit?" --collection demo --limit 2
show search "what does a package maintainer have to do about conffiles?" --collection demo --limit 2
show search "read a file line by line" --collection demo --limit 3 --unit sentence
show search "handling errors" --collection demo --limit 3 --unit document
