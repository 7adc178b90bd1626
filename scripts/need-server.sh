#!/usr/bin/env bash
# need-server.sh [--cc]
#
# Makes sure that this machine has a Valkey or Redis server and prints the path of its binary as the only line on stdout. A
# server that CTXLOCK_SERVER names or that is on PATH is taken as it is; otherwise the system's package manager installs one,
# as root or by sudo without a password. No service is left running that did not run before.
#
# --cc checks for a C compiler instead, which the specs need beside a server: for the race detector and to shift a server's
# clock.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "need-server: $*" >&2; }

fail() {
  say "$*"
  cat >&2 <<'M'
Install a server and try again; any of these will do:
  Debian, Ubuntu   apt-get install valkey-server (or redis-server)
  Fedora, RHEL     dnf install valkey (or redis)
  Alpine           apk add valkey (or redis)
  macOS            brew install valkey (or redis)
  containers       make compose-test (docker compose, see docker-compose.yml)
  several at once  make servers (Debian's packages, unpacked into .servers and not installed)
or set CTXLOCK_SERVER to the path of a server binary.
M
  exit 1
}

# is_server PATH: whether it runs and says that it is a server.
is_server() { [ -x "$1" ] && [[ $("$1" --version 2>/dev/null) =~ ^(Valkey|Redis)\ server\ v= ]]; }

# find_server prints the path of a server, if there is one.
find_server() {
  local name path
  for name in valkey-server redis-server; do
    if path=$(command -v "$name") && is_server "$path"; then
      echo "$path"
      return
    fi
  done
  # Debian's tools packages hold the server too: it is one program with redis-check-rdb and goes by the name it is called by.
  # They bring no service, so they are what install_apt prefers.
  for name in valkey redis; do
    if path=$(command -v "$name-check-rdb"); then
      mkdir -p .servers/system
      ln -sf "$path" ".servers/system/$name-server"
      if is_server "$PWD/.servers/system/$name-server"; then
        echo "$PWD/.servers/system/$name-server"
        return
      fi
    fi
  done
  return 1
}

root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

# quietly COMMAND...: package managers talk a lot; all of it is wanted when they fail, and nothing otherwise.
quietly() {
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 || status=$?
  [ "$status" = 0 ] || cat "$log" >&2
  rm -f "$log"
  return "$status"
}

# installable PACKAGE: whether apt knows a version of it, so that no error is shown for one that it does not know.
installable() { [[ $(LC_ALL=C apt-cache policy "$1" 2>/dev/null) == *"Candidate: "[^\(]* ]]; }

apt_install() { installable "$1" && quietly root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"; }

install_apt() {
  quietly root apt-get update || say "apt-get update failed; trying with the lists there are"
  local p policy=/usr/sbin/policy-rc.d
  for p in valkey-tools redis-tools; do
    if apt_install "$p" && find_server >/dev/null; then return; fi
  done
  # The packages with a service start it at once, unless this script, which belongs to whoever runs the machine, forbids it.
  if [ ! -e "$policy" ]; then
    trap 'root rm -f '"$policy" EXIT
    printf '#!/bin/sh\nexit 101\n' | root tee "$policy" >/dev/null
    root chmod 755 "$policy"
  fi
  for p in valkey-server redis-server; do
    if apt_install "$p"; then
      # Nor at the next boot.
      if command -v systemctl >/dev/null; then quietly root systemctl disable "$p" || true; fi
      return
    fi
  done
  return 1
}

# The services of these start only when somebody enables them.
install_dnf() { quietly root dnf install -y valkey || quietly root dnf install -y redis; }
install_apk() { quietly root apk add --no-cache valkey || quietly root apk add --no-cache redis; }
install_brew() { quietly brew install valkey || quietly brew install redis; } # refuses to run as root

if [ "${1:-}" = --cc ]; then
  command -v "${CC:-cc}" >/dev/null && exit
  say "the specs need a C compiler: install gcc and the C library's headers (libc6-dev, glibc-devel, musl-dev), or clang"
  exit 1
fi

if [ -n "${CTXLOCK_SERVER:-}" ]; then
  is_server "$CTXLOCK_SERVER" || fail "CTXLOCK_SERVER is $CTXLOCK_SERVER, which is no server"
  echo "$CTXLOCK_SERVER"
  exit
fi
if find_server; then exit; fi

for manager in apt-get dnf apk brew; do
  command -v "$manager" >/dev/null || continue
  if [ "$manager" != brew ] && [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
    fail "there is no server on PATH, and installing one needs root"
  fi
  say "there is no server on PATH; installing one with $manager"
  "install_${manager%-get}" || fail "$manager could not install one"
  find_server || fail "$manager has installed one, but it is not on PATH"
  exit
done
fail "there is no server on PATH and no package manager that this script knows"
