#!/usr/bin/env bash
# modules.sh: lists the folders of the Go modules in this repository, the root's first.
set -euo pipefail
cd "$(dirname "$0")/.."
find . -name go.mod -not -path './.*/*' | sed 's|/go.mod$||' | sort
