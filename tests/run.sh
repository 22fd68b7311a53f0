#!/usr/bin/env bash
# All checks and tests of the project. Installs what it needs on a bare Debian, says what it does, stops at the first failure.
#
#   bash tests/run.sh            everything
#   bash tests/run.sh STEP...    only these steps: tools format lint arch test fuzz conformance quickstart
#
# Test peers that are slow to build are kept outside the repository, in $MESHGATE_CACHE (default ~/.cache/meshgate), by version.
set -euo pipefail
cd "$(dirname "$0")/.."

CACHE="${MESHGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshgate}"
H2SPEC_VERSION=v2.2.1
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}"
export MESHGATE_TOOLS="$CACHE/bin"

say() { printf '\n== %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

apt_install() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  say "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

step_tools() {
  say "tools"
  if have apt-get; then
    local packages=(pkg-config curl ca-certificates openssl)
    have cmake || packages+=(cmake)
    have cc || packages+=(gcc g++ make libc6-dev)
    have go || packages+=(golang-go)
    have python3 || packages+=(python3)
    apt_install "${packages[@]}"
  fi
  if ! have cargo; then
    say "no cargo: installing the stable toolchain with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy
    # shellcheck disable=SC1091
    . "$HOME/.cargo/env"
  fi
  mkdir -p "$MESHGATE_TOOLS"
  if [ ! -x "$MESHGATE_TOOLS/h2spec-$H2SPEC_VERSION" ]; then
    say "building h2spec $H2SPEC_VERSION (HTTP/2 conformance suite)"
    GOBIN="$MESHGATE_TOOLS" GOFLAGS=-mod=mod go install "github.com/summerwind/h2spec/cmd/h2spec@$H2SPEC_VERSION"
    mv "$MESHGATE_TOOLS/h2spec" "$MESHGATE_TOOLS/h2spec-$H2SPEC_VERSION"
  fi
  ln -sf "h2spec-$H2SPEC_VERSION" "$MESHGATE_TOOLS/h2spec"
}

step_format() { say "format"; cargo fmt --all --check; }
step_lint() { say "lint"; cargo clippy --workspace --all-targets --locked -- -D warnings; }
step_arch() { say "walls"; cargo xtask arch; }
step_test() { say "tests"; cargo test --workspace --locked; }

if [ $# = 0 ]; then
  set -- tools format lint arch test
fi
for step in "$@"; do
  if ! declare -F "step_$step" >/dev/null; then
    echo "tests/run.sh: no step '$step'" >&2
    exit 64
  fi
  started=$SECONDS
  "step_$step"
  echo "-- $step: $((SECONDS - started)) s"
done
say "all green"
