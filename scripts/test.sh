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

# The root module's specs mostly wait, so four parts of them run side by side, which take about as long, and the other packages after
# them. The fourth part is what the first three have not named. A spec that fails is run once more, and Ginkgo says so: on a busy machine one
# in a few hundred misses a bound on speed.
links='link_test.go|access_test.go|wait_test.go|builder_test.go|watcher_test.go|several'
nodes='redlock|fencing_test.go|replica_test.go'
queues='queue_test.go|queue_faults|queue_topology|line_test.go|memory_test.go'
root() {
  echo "== .: $("$CTXLOCK_SERVER" --version)"
  local ok=0 part pids=()
  for part in links nodes queues; do
    go test -race -timeout 15m "$@" -run '^TestLocker$' . --ginkgo.flake-attempts=2 --ginkgo.focus-file="${!part}" >"$tmp/$part" 2>&1 &
    pids+=($!)
  done
  go test -race -timeout 15m "$@" . --ginkgo.flake-attempts=2 --ginkgo.skip-file="$links|$nodes|$queues" || ok=1
  for part in "${pids[@]}"; do
    wait "$part" || ok=1
  done
  cat "$tmp/links" "$tmp/nodes" "$tmp/queues"
  go list ./... | tail -n +2 | xargs go test -race -timeout 10m "$@" || ok=1
  go test -run '^TestScale' ./internal/sim || ok=1 # which the race detector does not bear
  return "$ok"
}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

failed=0 # what fails does not keep the rest from being run
for s in "${servers[@]}"; do
  export CTXLOCK_SERVER=$s
  root "$@" || failed=1
done

# Modules of their own: they bring dependencies that the library must not have. One server is enough for them.
export CTXLOCK_SERVER=${servers[0]}
modules=$(scripts/modules.sh)
for m in $modules; do
  case $m in . | ./tools) continue ;; esac
  (cd "$m" && run "$m" "$@") || failed=1
done
exit "$failed"
