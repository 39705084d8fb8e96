#!/usr/bin/env bash
# Starts the server, indexes demo/ and runs a few searches. Usage: demo.sh DATA_DIR
# The server takes a free port; TROVE_DEMO_PORT names one.
set -euo pipefail
cd "$(dirname "$0")/.."
data_dir=${1:-.trove}
trove=target/release/trove
log="$data_dir/demo-server.log"
ready="$data_dir/demo-server.ready"

step() { printf '\n== %s\n' "$*"; }

# Prints a command as a person types it, then runs it.
show() {
  local word line='$ trove'
  for word in "$@"; do
    case $word in *[!A-Za-z0-9_./:=-]*) line+=" \"$word\"" ;; *) line+=" $word" ;; esac
  done
  printf '\n%s\n' "$line"
  "$trove" "$@"
}

step "Starting the server (its log: $log)"
: >"$ready"
"$trove" serve --data-dir "$data_dir" --listen "127.0.0.1:${TROVE_DEMO_PORT:-0}" >"$ready" 2>"$log" &
server=$!
stop() {
  kill "$server" 2>/dev/null || true
  wait "$server" 2>/dev/null || true
  rm -f "$ready"
}
trap stop EXIT
trap 'exit 130' INT TERM
for _ in $(seq 600); do
  grep -q '^listening on ' "$ready" && break
  if ! kill -0 "$server" 2>/dev/null; then
    printf 'error: the server stopped at its start; the end of %s:\n' "$log" >&2
    tail -n 20 "$log" >&2
    exit 1
  fi
  sleep 0.2
done
address=$(sed -n 's/^listening on //p' "$ready")
if [ -z "$address" ]; then
  printf 'error: the server did not get ready within two minutes; see %s\n' "$log" >&2
  exit 1
fi
export TROVE_SERVER="http://$address"
echo "listening on $address"
show info

step "Indexing 46 documents: Markdown, HTML, text and PDF (a second run finds them unchanged)"
show index demo --collection demo
show collections list

step "Searching passages by meaning and words"
show search "how do I undo the last commit?" --collection demo --limit 3
show search "what must a package do with its configuration files?" --collection demo --limit 3

step "Single sentences"
show search "who founded Debian, and when?" --collection demo --limit 3 --unit sentence

step "Whole documents, among the Markdown ones only"
show search "read a file line by line" --collection demo --limit 3 --unit document --filter extension=md

step "Answers in the words of the documents, with their sources"
show ask "who founded Debian, and when?" --collection demo || true
show ask "how do I change my last commit?" --collection demo || true
step "A question that these documents do not answer"
show ask "how hot is the surface of Venus?" --collection demo || true

step "Done. To go on with the same documents:"
cat <<TEXT
  $trove serve --data-dir "$data_dir"
  $trove search "what is a closure?" --collection demo
  $trove chat --collection demo
TEXT
