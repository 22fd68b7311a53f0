#!/usr/bin/env bash
# What the controller and a gateway do with thousands of routes of a real API server: how long a new route takes to be live,
# what both weigh, and whether a request fails while a route changes. Needs root (network namespaces), and Go to build the
# control plane when it is missing.
#
#   bash benches/cluster/run.sh [--routes 3000] [--crowd 5000] [--changes 1000] [--strict]
set -euo pipefail
cd "$(dirname "$0")/../.."
CACHE="${MESHGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshgate}"
export MESHGATE_CLUSTER_OUT="$CACHE/cluster"
tests/cluster/build.sh "$MESHGATE_CLUSTER_OUT" packages kube
cargo build --release --locked -p gateway --bin meshgate -p controller --bin meshgate-controller -p meshgate-benches --bin cluster_load
bin="$(realpath "${CARGO_TARGET_DIR:-target}/release")"
# Sockets lie in it: a short path.
folder=$(mktemp -d /tmp/mgc.XXXX)
trap 'tests/cluster/cluster.sh down "$folder" || true; rm -rf "$folder"' EXIT
tests/cluster/cluster.sh up "$folder" --control-plane
MESHGATE_BIN="$bin/meshgate" PATH="$MESHGATE_CLUSTER_OUT/bin:$PATH" KUBECONFIG="$folder/admin.kubeconfig" \
  tests/cluster/cluster.sh exec "$folder" "$bin/cluster_load" "$@"
