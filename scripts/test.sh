#!/usr/bin/env bash
# test.sh [GO TEST FLAGS]: runs all specs of all modules with the race detector.
#
# With SERVERS=DIR, the root module's run once for each server in DIR (as `make servers` lays them out).
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/need-server.sh --cc
servers=()
if [ -n "${SERVERS:-}" ]; then
  for s in "$(cd "$SERVERS" && pwd)"/*/server; do
    [ -x "$s" ] || { echo "test: there is no server in $SERVERS" >&2; exit 1; }
    servers+=("$s")
  done
else
  server=$(scripts/need-server.sh) # apart from the next line, which would hide a failure
  servers+=("$server")
fi

run() {
  echo "== $1: $("$CTXLOCK_SERVER" --version)"
  shift
  go test -race -timeout 10m "$@" ./...
}

for s in "${servers[@]}"; do
  export CTXLOCK_SERVER=$s
  run . "$@"
done

# Modules of their own: they bring dependencies that the library must not have. One server is enough for them.
export CTXLOCK_SERVER=${servers[0]}
modules=$(scripts/modules.sh)
for m in $modules; do
  case $m in . | ./tools) continue ;; esac
  (cd "$m" && run "$m" "$@")
done
