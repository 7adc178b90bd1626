#!/usr/bin/env bash
# get-servers.sh DIR [LABEL | LABEL=SUITE:PACKAGE]...
#
# Fetches Valkey and Redis servers of several versions from Debian's suites into DIR/LABEL, each with the shared libraries it
# needs, so that the specs can run against all of them on one machine. Nothing is installed and apt's own state is not
# touched. Without labels it fetches all that are listed below.
#
# Result: DIR/LABEL/{server,cli,benchmark,sentinel}, small scripts that run the programs; DIR can be moved.
#
# It needs apt-get, apt-cache and dpkg-deb (Debian, or a container with it), and takes the mirror that apt uses already;
# DEBIAN_MIRROR names another.
set -euo pipefail

# The suites move on: sid and experimental hold later versions one day. A label is a name for what they held when it was
# written down; a server that has left its label behind is reported, and used.
known=(
  redis-7.0=bookworm:redis-tools
  redis-8.0=sid:redis-tools
  redis-8.6=experimental:redis-tools
  valkey-8.0=bookworm-backports:valkey-tools
  valkey-8.1=trixie:valkey-tools
  valkey-9.1=sid:valkey-tools
)

say() { echo "$*" >&2; }
die() { say "get-servers: $*"; exit 1; }

[ $# -gt 0 ] || die "usage: $0 DIR [LABEL | LABEL=SUITE:PACKAGE]..."
for tool in apt-get apt-cache dpkg dpkg-deb; do
  command -v "$tool" >/dev/null || die "needs $tool: run it on Debian, or in a container with Debian"
done
dir=$(mkdir -p "$1" && cd "$1" && pwd)
shift

specs=()
for want in "$@"; do
  case $want in
  *=*:*) specs+=("$want") ;;
  *)
    found=
    for k in "${known[@]}"; do
      if [ "${k%%=*}" = "$want" ]; then
        specs+=("$k")
        found=1
      fi
    done
    [ "$found" ] || die "unknown label $want; known: ${known[*]%%=*}"
    ;;
  esac
done
[ ${#specs[@]} -gt 0 ] || specs=("${known[@]}")

# The mirror that this machine uses, from apt's new format or from the old one.
mirror=${DEBIAN_MIRROR:-$({ cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } |
  awk '/^URIs:/ { print $2; exit }
       /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^https?:/) { print $i; exit } }' || true)}
[ "$mirror" ] || die "apt names no mirror; set DEBIAN_MIRROR"
keyring=
for k in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
  if [ -f "$k" ]; then keyring=$k; fi
done
[ "$keyring" ] || die "needs Debian's keys: install debian-archive-keyring"
arch=$(dpkg --print-architecture)

# config SUITE prints the path of an apt configuration of our own, whose lists hold that suite and what it builds on, and whose
# status says that nothing is installed: so the system's version plays no part in what is chosen.
config() {
  local suite=$1 d=$dir/.apt/$1 options="signed-by=$keyring"
  if [ ! -f "$d/ok" ]; then
    mkdir -p "$d/lists/partial" "$d/cache/archives/partial"
    : >"$d/status"
    # These carry a date of expiry, which a mirror that lags behind or stands still overruns.
    case $suite in sid | experimental) options+=" check-valid-until=no" ;; esac
    {
      echo "deb [$options] $mirror $suite main"
      case $suite in
      experimental) echo "deb [$options] $mirror sid main" ;;
      *-backports) echo "deb [$options] $mirror ${suite%-backports} main" ;;
      esac
    } >"$d/sources.list"
    cat >"$d/apt.conf" <<C
Dir::State "$d"; Dir::State::status "$d/status"; Dir::State::Lists "$d/lists"; Dir::Cache "$d/cache";
Dir::Etc::sourcelist "$d/sources.list"; Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "root"; Acquire::Languages "none"; APT::Architecture "$arch"; APT::Architectures { "$arch"; };
C
    APT_CONFIG=$d/apt.conf apt-get -qq update >&2
    touch "$d/ok"
  fi
  echo "$d/apt.conf"
}

# The shared libraries that the programs load. The rest of what the packages depend on (perl, passwd, systemd) is not wanted.
libraries='libc6|libatomic1|libjemalloc2|liblzf1|libssl3(t64)?|libstdc\+\+6|libgcc-s1|libsystemd0|libcap2|libgcrypt20|libgpg-error0|liblzma5|libzstd1|liblz4-1|zlib1g'

# fetch OUT SUITE PACKAGE unpacks the package and its libraries into OUT/root.
fetch() {
  local out=$1 suite=$2 package=$3 version libs
  APT_CONFIG=$(config "$suite") || return
  export APT_CONFIG
  version=$(apt-cache madison "$package" | awk -F' *[|] *' -v s=" $suite/" 'index($3, s) { print $2; exit }')
  [ "$version" ] || { say "$suite has no $package"; return 1; }
  libs=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces --no-enhances \
    "$package=$version" 2>/dev/null | grep -oE "^($libraries)\$" | sort -u)
  rm -rf "$out"
  mkdir -p "$out/root" "$out/debs"
  # shellcheck disable=SC2086 # a list of names
  (cd "$out/debs" && apt-get -qq download "$package=$version" $libs) || return
  for deb in "$out"/debs/*.deb; do
    dpkg-deb -x "$deb" "$out/root" || return
  done
  rm -rf "$out/debs" "$out"/root/usr/share/{doc,man,locale,lintian}
}

# wrap OUT NAME writes the scripts. The programs run by the dynamic linker that came with them, because this machine's may be
# older; exec, so that a signal to the process reaches the server and not a shell. --argv0, because the server, the sentinel
# and the checkers are one program that goes by its name.
wrap() {
  local out=$1 name=$2 linker path= lib folder tool program extra
  ln -sf "$name-check-rdb" "$out/root/usr/bin/$name-server" # as the package with the service has it
  first() { (cd "$out" && find root "$@" | sort | head -1); }
  linker=$(first -name 'ld-linux*.so.*')
  for lib in libc.so.6 libssl.so.3 libjemalloc.so.2; do
    folder=$(dirname "$(first -name "$lib")")
    case $path: in *":\$d/$folder:"*) ;; *) path+=:\$d/$folder ;; esac
  done
  for tool in server cli benchmark sentinel; do
    program=$name-$tool extra=
    if [ "$tool" = sentinel ]; then program=$name-server extra=' --sentinel'; fi
    cat >"$out/$tool" <<W
#!/bin/sh
d=\${0%/*}
exec "\$d/$linker" --argv0 $program --library-path "${path#:}" "\$d/root/usr/bin/$program" "\$@"$extra
W
    chmod +x "$out/$tool"
  done
}

failed=
for spec in "${specs[@]}"; do
  label=${spec%%=*} rest=${spec#*=}
  suite=${rest%%:*} package=${rest##*:} out=$dir/$label
  if ! "$out/server" --version >/dev/null 2>&1; then
    if ! fetch "$out" "$suite" "$package" || ! wrap "$out" "${package%-tools}" || ! "$out/server" --version >/dev/null; then
      rm -rf "$out"
      say "$label: could not be fetched"
      failed+=" $label"
      continue
    fi
  fi
  version=$("$out/server" --version)
  echo "$label: $version"
  case $version in *"v=${label##*-}."*) ;; *) say "$label: $suite has moved on to another version" ;; esac
done
[ -z "$failed" ] || die "not fetched:$failed"
