#!/usr/bin/env bash
# images.sh OUT [PROFILE]: our images, made of the binaries in target/PROFILE (release if not named), as OUT/*.tar.
# Each service of bookinfo has an image of its own, as in the sample that Istio's users know: entry points carry the arguments.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"; out=$(cd "$1" && pwd); profile=${2:-release}
bin="${CARGO_TARGET_DIR:-$here/../../target}/$profile"
version=$("$bin/meshgate" --version | awk '{ print $2 }')
more=() # further options of mkimage.py
make() { # NAME USER BINARY [ARG...]
  local name=$1 user=$2 binary=$3 arguments=(); shift 3
  for argument in "$@"; do arguments+=("--entrypoint=$argument"); done
  "$here/mkimage.py" -o "$out/${name//\//-}.tar" -n "docker.io/$name:$version" --user "$user" -e "/usr/local/bin/$binary" "${arguments[@]}" \
    --lib "$bin/$binary:/usr/local/bin/$binary" "${more[@]}"
}
make meshgate/meshgate 1337 meshgate
make meshgate/controller 65532 meshgate-controller
# What the sidecar's `redirect` calls: iptables, nft where this machine has it, and ip for the address ::6.
more=(--iptables --lib "$(command -v ip):/usr/sbin/ip")
if nft=$(command -v nft); then more+=(--lib "$nft:/usr/sbin/nft"); fi
make meshgate/sidecar 1337 meshgate-sidecar
more=()
make meshgate/bookinfo 65532 bookinfo
make meshgate/bookinfo-productpage-v1 65532 bookinfo productpage
make meshgate/bookinfo-details-v1 65532 bookinfo details
make meshgate/bookinfo-ratings-v1 65532 bookinfo ratings
for release in v1 v2 v3; do
  make "meshgate/bookinfo-reviews-$release" 65532 bookinfo reviews "--release=$release"
done
