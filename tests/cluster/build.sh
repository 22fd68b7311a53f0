#!/usr/bin/env bash
# build.sh OUT [TARGET...]: builds the cluster's parts into OUT from Go modules.
# Targets: packages kube cri cni coredns images (all of them if none is named).
# A part that OUT already has, at the same pins and sources, is skipped. Safe to interrupt and rerun.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
die() { echo "build.sh: $*" >&2; exit 1; }
[ $# -ge 1 ] || die "usage: build.sh OUT [packages|kube|cri|cni|coredns|images]..."
mkdir -p "$1"; OUT=$(cd "$1" && pwd); shift
[ $# -gt 0 ] || set -- packages kube cri cni coredns images
. "$here/versions.env"
mkdir -p "$OUT"/{bin,img,stamp,crd}
exec 9>"$OUT/.lock"; flock 9        # two builds into one OUT wait for each other

# step NAME KEY FUNCTION: runs the function unless OUT has NAME at KEY.
step() {
  local name=$1 key=$2 t0; shift 2
  if [ "$(cat "$OUT/stamp/$name" 2>/dev/null)" = "$key" ]; then echo "$name: there ($key)"; return; fi
  echo "$name: building ($key)"; t0=$(date +%s)
  rm -f "$OUT/stamp/$name"; "$@"; echo "$key" >"$OUT/stamp/$name"
  echo "$name: built in $(($(date +%s) - t0)) s"
}
sum() { cat "$@" | sha256sum | cut -c1-12; }
pin() { grep -qE "(^|[[:space:]])$2 $3( // indirect)?\$" "$here/src/$1/go.mod" || die "src/$1/go.mod does not pin $2 $3 as versions.env does"; }
static() { CGO_ENABLED=0 go build -trimpath -buildvcs=false "$@"; }

packages() {
  local need=() p
  for p in iproute2 iptables util-linux openssl curl gcc libc6-dev pkg-config libseccomp-dev busybox-static jq conntrack python3; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || need+=("$p")
  done
  [ ${#need[@]} -eq 0 ] && { echo "packages: there"; return; }
  echo "packages: installing ${need[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null
}

kube() {
  pin kube k8s.io/kubernetes "$KUBE"; pin kube go.etcd.io/etcd/server/v3 "$ETCD"
  local x="-s -w" p minor=${KUBE#v1.}; minor=${minor%%.*}
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    x+=" -X $p.gitVersion=$KUBE -X $p.gitMajor=1 -X $p.gitMinor=$minor -X $p.gitTreeState=clean -X $p.buildDate=2026-01-01T00:00:00Z"
  done
  (cd "$here/src/kube" && static -ldflags "$x" -o "$OUT/bin/kubetools" .)
  for p in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl lb; do ln -sfn kubetools "$OUT/bin/$p"; done
}

install() { (cd / && GOBIN=$OUT/bin GOFLAGS=-mod=mod go install -trimpath "$@"); }
cri() {
  local v=github.com/containerd/containerd/v2
  CGO_ENABLED=0 install -ldflags "-s -w -X $v/version.Version=$CONTAINERD" -tags no_btrfs,no_devmapper,no_zfs,no_aufs \
    $v/cmd/containerd@"$CONTAINERD" $v/cmd/containerd-shim-runc-v2@"$CONTAINERD" $v/cmd/ctr@"$CONTAINERD"
}
# runc is the one part that needs cgo (nsenter in C, seccomp). Without the seccomp tag every pod that
# names a seccompProfile fails with "seccomp: config provided but seccomp not supported".
runc() { CGO_ENABLED=1 install -ldflags "-s -w -X main.version=${RUNC#v}" -tags seccomp github.com/opencontainers/runc@"$RUNC"; }
cni() {
  local v=github.com/containernetworking/plugins
  CGO_ENABLED=0 install -ldflags "-s -w" $v/plugins/main/{ptp,bridge,loopback}@"$CNI" $v/plugins/ipam/host-local@"$CNI" $v/plugins/meta/portmap@"$CNI"
}
coredns() { pin coredns github.com/coredns/coredns "$COREDNS"; (cd "$here/src/coredns" && static -ldflags "-s -w" -o "$OUT/bin/coredns" .); }

probe() { (cd "$here/src/probe" && static -ldflags "-s -w" -o "$OUT/bin/probe" .); }
images() {
  local mk="$here/mkimage.py" t=$OUT/img/.pause; mkdir -p "$t"
  printf '#include <unistd.h>\n#include <signal.h>\nstatic void bye(int s){(void)s;_exit(0);}\nint main(){signal(SIGTERM,bye);signal(SIGINT,bye);for(;;)pause();}\n' >"$t/pause.c"
  gcc -Os -static -s -o "$t/pause" "$t/pause.c"
  "$mk" -o "$OUT/img/pause.tar" -n "registry.test/pause:$PAUSE" --user 65535 -e /pause -c "$t/pause:/pause"
  rm -rf "$t"
  "$mk" -o "$OUT/img/busybox.tar" -n registry.test/busybox:1 --busybox "$(command -v busybox)" -e /bin/sh
  "$mk" -o "$OUT/img/probe.tar" -n registry.test/probe:1 --user 65532 -e /probe -c "$OUT/bin/probe:/probe"
  "$mk" -o "$OUT/img/iptables.tar" -n registry.test/iptables:1 --busybox "$(command -v busybox)" --iptables -c "$OUT/bin/probe:/probe" -e /bin/sh
}


command -v go >/dev/null || die "no Go toolchain (1.26 or newer) in PATH"
[ "$(uname -s)" = Linux ] || die "Linux only"
t0=$(date +%s)
for target in "$@"; do
  case $target in
    packages) packages ;;
    kube) step kube "$KUBE-$ETCD-$(sum "$here"/src/kube/*)" kube ;;
    cri) step cri "$CONTAINERD" cri; step runc "$RUNC" runc ;;
    cni) step cni "$CNI" cni ;;
    coredns) step coredns "$COREDNS-$(sum "$here"/src/coredns/*)" coredns ;;
    images) step probe "$(sum "$here"/src/probe/*)" probe
      step images "$PAUSE-$(sum "$here"/src/probe/* "$here/mkimage.py" "$here/build.sh" /bin/busybox)" images ;;
    *) die "unknown target $target" ;;
  esac
done
echo "done in $(($(date +%s) - t0)) s; $(du -sh "$OUT" | cut -f1) in $OUT"
