#!/usr/bin/env bash
# All checks and tests of the project. Installs what it needs on a bare Debian, says what it does, stops at the first failure.
#
#   bash tests/run.sh            everything
#   bash tests/run.sh STEP...    only these steps: tools format lint arch test conformance cluster fuzz
#
# Test peers that are slow to build are kept outside the repository, in $MESHGATE_CACHE (default ~/.cache/meshgate), by version.
set -euo pipefail
cd "$(dirname "$0")/.."

CACHE="${MESHGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshgate}"
H2SPEC_VERSION=v2.2.1+incompatible
GRPC_VERSION=v1.60.1
PEBBLE_VERSION=v2.10.3
KOSOKU_VERSION=0.1.0
WEBSOCKETS_VERSION=15.0.1
FUZZ_SECONDS="${FUZZ_SECONDS:-15}"
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
    # Pods as network namespaces.
    have ip || packages+=(iproute2)
    have iptables || packages+=(iptables)
    have nft || packages+=(nftables)
    python3 -c 'import ensurepip' 2>/dev/null || packages+=(python3 python3-venv)
    apt_install "${packages[@]}"
  fi
  if ! have cargo; then
    say "no cargo: installing the stable toolchain with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy
    # shellcheck disable=SC1091
    . "$HOME/.cargo/env"
  fi
  mkdir -p "$MESHGATE_TOOLS"
  go_tool "h2spec-$H2SPEC_VERSION" h2spec "github.com/summerwind/h2spec/cmd/h2spec@$H2SPEC_VERSION"
  go_tool "grpc-interop-client-$GRPC_VERSION" client "google.golang.org/grpc/interop/client@$GRPC_VERSION"
  go_tool "grpc-interop-server-$GRPC_VERSION" server "google.golang.org/grpc/interop/server@$GRPC_VERSION"
  # A CA for ACME, and its DNS. They need a newer Go than a bare Debian has: without it their tests are skipped, in CI they fail.
  if go_is_at_least 1 25; then
    for tool in pebble pebble-challtestsrv; do
      go_tool "$tool-$PEBBLE_VERSION" "$tool" "github.com/letsencrypt/pebble/v2/cmd/$tool@$PEBBLE_VERSION"
      ln -sf "$tool-$PEBBLE_VERSION" "$MESHGATE_TOOLS/$tool"
    done
  else
    echo "no pebble: it needs Go 1.25 or newer"
  fi
  ln -sf "h2spec-$H2SPEC_VERSION" "$MESHGATE_TOOLS/h2spec"
  ln -sf "grpc-interop-client-$GRPC_VERSION" "$MESHGATE_TOOLS/grpc-interop-client"
  ln -sf "grpc-interop-server-$GRPC_VERSION" "$MESHGATE_TOOLS/grpc-interop-server"
  local stamp="$CACHE/python/kosoku-$KOSOKU_VERSION-websockets-$WEBSOCKETS_VERSION"
  if [ ! -e "$stamp" ]; then
    say "installing kosoku $KOSOKU_VERSION (WebSocket conformance suite)"
    python3 -m venv "$CACHE/python"
    "$CACHE/python/bin/pip" install --quiet "kosoku==$KOSOKU_VERSION" "websockets==$WEBSOCKETS_VERSION"
    touch "$stamp"
  fi
}

# go_is_at_least MAJOR MINOR: Go is as new as that, or can fetch a newer toolchain by itself (since 1.21).
go_is_at_least() {
  local version
  version=$(go env GOVERSION | sed 's/^go//')
  local major=${version%%.*} rest=${version#*.}
  local minor=${rest%%[!0-9]*}
  [ "$major" -gt "$1" ] || [ "$minor" -ge "$2" ] || { [ "$minor" -ge 21 ] && [ "$(go env GOTOOLCHAIN)" != local ]; }
}

# go_tool FILE BINARY PACKAGE: builds PACKAGE, whose binary is called BINARY, as FILE; once per version.
go_tool() {
  [ -x "$MESHGATE_TOOLS/$1" ] && return
  say "building $1"
  local build
  build=$(mktemp -d)
  GOBIN="$build" go install "$3"
  mv "$build/$2" "$MESHGATE_TOOLS/$1"
  rm -rf "$build"
}

step_format() { say "format"; cargo fmt --all --check; }
step_lint() { say "lint"; cargo clippy --workspace --all-targets --locked -- -D warnings; }
step_arch() { say "walls"; cargo xtask arch; cargo xtask fields --check; }
step_test() { say "tests"; cargo test --workspace --locked; }

step_conformance() {
  say "conformance"
  cargo build --locked --workspace --bins
  python3 tests/conformance/run.py --meshgate "${CARGO_TARGET_DIR:-target}/debug/meshgate" --tools "$MESHGATE_TOOLS" --python "$CACHE/python/bin"
}

# Against a real Kubernetes control plane, in a network namespace of its own. Needs root, and Go to build what is missing.
step_cluster() {
  say "cluster"
  if [ "$(id -u)" != 0 ] || ! have go; then
    [ "${CI:-}" = true ] && { echo "the cluster tests need root and Go" >&2; return 1; }
    echo "skipped: no cluster (needs root and Go)"
    return
  fi
  export MESHGATE_CLUSTER_OUT="$CACHE/cluster"
  tests/cluster/build.sh "$MESHGATE_CLUSTER_OUT" packages kube
  cargo build --locked --workspace --bins
  in_control_plane cluster
  in_control_plane cluster_cases
}

# in_control_plane TEST: this test of the crate e2e, in a control plane of its own, so that none finds what another one left.
in_control_plane() {
  local folder binary
  binary=$(cargo test --locked --workspace --test "$1" --no-run --message-format=json |
    python3 -c 'import json,sys; print(*[m["executable"] for m in map(json.loads, sys.stdin) if m.get("executable") and m["target"]["name"] == sys.argv[1]])' "$1")
  folder=$(mktemp -d /tmp/mgc.XXXX)
  # shellcheck disable=SC2064
  trap "tests/cluster/cluster.sh down '$folder' || true; rm -rf '$folder'" EXIT
  tests/cluster/cluster.sh up "$folder" --control-plane
  MESHGATE_BIN="$(realpath "${CARGO_TARGET_DIR:-target}/debug/meshgate")" MESHGATE_CLUSTER="$folder" PATH="$MESHGATE_CLUSTER_OUT/bin:$PATH" KUBECONFIG="$folder/admin.kubeconfig" \
    tests/cluster/cluster.sh exec "$folder" "$binary" --test-threads 1
  tests/cluster/cluster.sh down "$folder"
  rm -rf "$folder"
  trap - EXIT
}

# Coverage-guided, on the stable toolchain: the instrumentation is LLVM's, the engine libFuzzer's.
step_fuzz() {
  say "fuzz, $FUZZ_SECONDS s a target"
  local out="${CARGO_TARGET_DIR:-target}/fuzz" target seeds
  RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table -Ccodegen-units=1" \
    cargo build --manifest-path tests/fuzz/Cargo.toml --target-dir "$out" --target "$(rustc -vV | sed -n 's/host: //p')"
  for target in h1_request h1_response request_parts yaml_parse configuration wire proxy_header mesh_preamble client_identity key_set dns_message load_report; do
    echo "-- $target"
    # What is found goes into the first folder; of the others it is only read.
    seeds=("$out/corpus/$target")
    mkdir -p "${seeds[0]}"
    case $target in yaml_parse | configuration) seeds+=(deploy/samples) ;; esac
    "$out/$(rustc -vV | sed -n 's/host: //p')/debug/$target" "${seeds[@]}" -artifact_prefix="$out/" -max_total_time="$FUZZ_SECONDS" -rss_limit_mb=2048 -print_final_stats=1 2>"$out/$target.log" || {
      tail -n 60 "$out/$target.log"
      return 1
    }
    grep -E 'number_of_executed_units|peak_rss' "$out/$target.log"
  done
}

if [ $# = 0 ]; then
  set -- tools format lint arch test conformance cluster fuzz
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
