#!/usr/bin/env bash
# Bookinfo behind Meshgate under k6, in one line: PASS or FAIL and the figures. With --changes the rules on disk change all
# the while: weights and subsets, hosts added and removed.
#
#   bash benches/k6/run.sh [--duration 20s] [--vus 8] [--changes N]
set -euo pipefail
cd "$(dirname "$0")/../.."
duration=20s vus=8 changes=0
while [ $# -gt 0 ]; do
  case $1 in
    --duration) duration=$2 ;;
    --vus) vus=$2 ;;
    --changes) changes=$2 ;;
    *) sed -n '2,6p' "$0" >&2; exit 64 ;;
  esac
  shift 2
done

# shellcheck source=benches/k6/tool.sh
. benches/k6/tool.sh

port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
http_port=$(port) https_port=$(port) admin_port=$(port) status_port=$(port)
work=$(mktemp -d)
export TMPDIR=$work MESHGATE_LOOPBACK=${MESHGATE_LOOPBACK:-127.0.21}
bash deploy/quickstart.sh --http-port "$http_port" --https-port "$https_port" --admin-port "$admin_port" --status-port "$status_port" >"$work/log" 2>&1 &
stack=$!
finish() {
  kill -TERM "$stack" 2>/dev/null || true
  wait "$stack" 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT
until grep -q 'Ctrl-C stops it' "$work/log"; do
  kill -0 "$stack" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.2
done

gateway() { pgrep -f "meshgate run -f $work" | head -n 1; }
rss() { awk '/VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$(gateway)/status"; }
descriptors() { ls "/proc/$(gateway)/fd" | wc -l; }
metric() { curl -s "http://127.0.0.1:$admin_port/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }

if [ "$changes" -gt 0 ]; then
  config=$(echo "$work"/meshgate-quickstart.*/config)
  # Warm up first, so that growth by change can be told from growth by load.
  k6 run --quiet --no-usage-report -e BASE="http://localhost:$http_port" -e TLS_BASE="https://localhost:$https_port" -e DURATION=5s -e VUS="$vus" benches/k6/bookinfo.js >/dev/null || true
  before=$(rss) fds=$(descriptors)
  # Growth by change would go on; a heap that finds its size under load does not.
  while sleep 2; do echo "$(metric meshgate_config_generation) $(rss)"; done >"$work/rss" &
  sampler=$!
  python3 benches/k6/change.py "$config" "$changes" "http://127.0.0.1:$admin_port" &
  changer=$!
  k6 run --quiet --no-usage-report -e BASE="http://localhost:$http_port" -e TLS_BASE="https://localhost:$https_port" -e DURATION="$duration" -e VUS="$vus" benches/k6/bookinfo.js && code=0 || code=$?
  wait "$changer" || code=1
  kill "$sampler"
  echo "changes: generation $(metric meshgate_config_generation), RSS $before MiB before, $(rss) MiB after, descriptors $fds before, $(descriptors) after"
  awk -v all="$changes" '{ part = int($1 * 10 / all); if (part > 9) part = 9; if ($2 > most[part]) most[part] = $2 }
    END { printf "RSS, highest in each tenth of the changes:"; for (part = 0; part < 10; part++) printf " %.1f", most[part]; print " MiB" }' "$work/rss"
  exit "$code"
fi
exec_code=0
k6 run --quiet --no-usage-report -e BASE="http://localhost:$http_port" -e TLS_BASE="https://localhost:$https_port" -e DURATION="$duration" -e VUS="$vus" benches/k6/bookinfo.js || exec_code=$?
exit "$exec_code"
