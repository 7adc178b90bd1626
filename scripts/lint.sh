#!/usr/bin/env bash
# lint.sh: checks format, go vet, staticcheck and go.mod of every module, and that the shell scripts can be read.
set -euo pipefail
cd "$(dirname "$0")/.."

unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
  printf 'lint: gofmt would change:\n%s\n' "$unformatted" >&2
  exit 1
fi
for script in scripts/*.sh .ci/run; do
  bash -n "$script"
done
tools=$PWD/tools/go.mod
modules=$(scripts/modules.sh)
for m in $modules; do
  echo "lint: $m"
  (
    cd "$m"
    go mod tidy -diff
    [ "$m" != ./tools ] || exit 0 # no code
    go vet ./...
    go tool -modfile="$tools" staticcheck ./...
  )
done
