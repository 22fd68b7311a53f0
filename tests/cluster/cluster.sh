#!/usr/bin/env bash
# cluster.sh: a Kubernetes made of real parts, in network namespaces of its own (see README.md).
#   cluster.sh up DIR [--control-plane] [--nodes N] [--name NAME] [--no-lb] [--load IMAGE.tar]...
#   cluster.sh down DIR                      ends everything and leaves nothing behind but DIR/log
#   cluster.sh status DIR                    parts, memory, nodes; exit status 1 unless all parts run
#   cluster.sh kubectl DIR ARG...            kubectl as cluster admin
#   cluster.sh exec DIR [--client|--node N] CMD...   runs a command in a network namespace of the cluster
#   cluster.sh load DIR IMAGE.tar...         imports image archives on every node
#   cluster.sh reboot DIR [N]                ends all that runs on node N (default 1) at once, and starts its parts again
#   cluster.sh lb DIR [NAMESPACE/]SERVICE IP gives one Service this load balancer address
#   cluster.sh env DIR                       prints NAME, KUBECONFIG and more as shell assignments
# MESHGATE_CLUSTER_OUT names what build.sh built. DIR must be empty, absent or a cluster's, and short.
set -euo pipefail
die() { echo "cluster.sh: $*" >&2; exit 1; }
usage() { sed -n '2,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64; }
[ $# -ge 2 ] || usage
VERB=$1; DIR=$(realpath -m "$2"); shift 2
case $DIR in *[[:space:]\'\"\\]*) die "DIR must have no space, quote or backslash: $DIR" ;; esac
[ ${#DIR} -le 60 ] || die "DIR is longer than 60 characters; socket paths below it would not fit: $DIR"
[ "$(id -u)" = 0 ] || die "needs root"

# ---- addresses: the same in every cluster, since each has network namespaces of its own ----
NODE_NET=10.90.0      # node N is .N; load balancer addresses start at .100
CLIENT=10.91.0        # .1 is node 1, .2 the outside client
PODS=10.244           # node N has 10.244.(N-1).0/24
SERVICES=10.96.0.0/16
API=10.96.0.1; DNS=10.96.0.10
DEADLINE=${MESHGATE_CLUSTER_DEADLINE:-60}   # seconds that each readiness wait may take

ns_of() { if [ "$1" = 1 ]; then echo "$NAME"; else echo "$NAME-n$1"; fi; }
# `ip netns exec` would hide /sys/fs/cgroup behind a fresh sysfs; nsenter does not.
in_ns() { local n=$1; shift; nsenter --net="/run/netns/$n" -- "$@"; }
ctr() { "$OUT/bin/ctr" -a "$DIR/node$1/containerd.sock" -n k8s.io "${@:2}"; }
config() { [ -f "$DIR/config" ] || die "no cluster in $DIR"; . "$DIR/config"; }

# start NETNS PART PROGRAM ARG...: a daemon; its pid goes to pid/PART, its output to log/PART.log
start() {
  local ns=$1 part=$2; shift 2
  (cd "$DIR"; exec env PATH="$OUT/bin:$PATH" setsid nsenter --net="/run/netns/$ns" -- "$@" >"$DIR/log/$part.log" 2>&1 9>&- </dev/null) &
  echo "$! $(born $!)" >"$DIR/pid/$part"; disown $!
}
born() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '{print $20}'; }   # start time: a pid alone may be another's by now
# pids PART...: the pids of those parts that still run
pids() { local f p b; for f in "$@"; do read -r p b 2>/dev/null <"$DIR/pid/$f" || continue; [ "$(born "$p")" != "$b" ] || echo "$p"; done; }
# ready PART CMD...: waits until the command succeeds; fails at once when the part has died
ready() {
  local part=$1 end=$((SECONDS + DEADLINE)); shift
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { tail -n 15 "$DIR/log/$part.log" >&2; die "$part is not ready after $DEADLINE s (log above: $DIR/log/$part.log)"; }
    [ -n "$(pids "$part")" ] || { tail -n 15 "$DIR/log/$part.log" >&2; die "$part has ended (log above: $DIR/log/$part.log)"; }
    sleep 0.05
  done
}
http() { in_ns "$1" curl -sfk -m 2 "${@:3}" "$2"; }

pki() {
  cd "$DIR/pki"
  local days=3650
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days $days -subj /CN=kubernetes -keyout ca.key -out ca.crt \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,digitalSignature,keyCertSign,cRLSign 2>/dev/null
  openssl genrsa -out sa.key 2048 2>/dev/null; openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
  # issue FILE SUBJECT USAGE [SAN]
  issue() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -set_serial "0x$(openssl rand -hex 8)" -days $days -out "$1.crt" \
      -extfile <(echo "keyUsage=critical,digitalSignature"; echo "extendedKeyUsage=$3"; [ -z "${4:-}" ] || echo "subjectAltName=$4") 2>/dev/null
    rm -f "$1.csr"
  }
  issue apiserver /CN=kube-apiserver serverAuth "DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local,IP:127.0.0.1,IP:$NODE_NET.1,IP:$CLIENT.1,IP:$API"
  issue admin /O=system:masters/CN=admin clientAuth
  issue kcm /CN=system:kube-controller-manager clientAuth
  issue to-kubelet /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
  issue front-proxy /CN=front-proxy-client clientAuth
  [ "$LEVEL" = full ] || { cd "$DIR"; return 0; }
  issue scheduler /CN=system:kube-scheduler clientAuth
  issue proxy /CN=system:kube-proxy clientAuth
  issue coredns /CN=coredns clientAuth
  local n
  for n in $(seq "$NODES"); do
    issue "node$n" "/O=system:nodes/CN=system:node:node$n" clientAuth
    issue "kubelet$n" "/CN=node$n" serverAuth "DNS:node$n,IP:$NODE_NET.$n"
  done
  cd "$DIR"
}
kubeconfig() { # kubeconfig USER FILE
  cat >"$2" <<Y
apiVersion: v1
kind: Config
clusters: [{name: meshgate, cluster: {server: "https://$NODE_NET.1:6443", certificate-authority-data: "$(base64 -w0 "$DIR/pki/ca.crt")"}}]
users: [{name: $1, user: {client-certificate-data: "$(base64 -w0 "$DIR/pki/$1.crt")", client-key-data: "$(base64 -w0 "$DIR/pki/$1.key")"}}]
contexts: [{name: $1@meshgate, context: {cluster: meshgate, user: $1}}]
current-context: $1@meshgate
Y
}

network() {
  local n m ns
  ip netns add "$NAME"; ip netns add "$NAME-client"
  ip -n "$NAME" link set lo up; ip -n "$NAME-client" link set lo up
  in_ns "$NAME" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  ip -n "$NAME" link add br0 type bridge; ip -n "$NAME" addr add "$NODE_NET.1/24" dev br0; ip -n "$NAME" link set br0 up
  # The outside: a client that reaches node and load balancer addresses, and stands for the internet.
  ip -n "$NAME" link add out0 type veth peer name eth0 netns "$NAME-client"
  ip -n "$NAME" addr add "$CLIENT.1/24" dev out0; ip -n "$NAME" link set out0 up
  ip -n "$NAME-client" addr add "$CLIENT.2/24" dev eth0; ip -n "$NAME-client" link set eth0 up
  ip -n "$NAME-client" route add "$NODE_NET.0/24" via "$CLIENT.1"
  in_ns "$NAME-client" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
  ip -n "$NAME-client" route add unreachable default metric 100   # so that a call to nowhere fails at once
  ip -n "$NAME" route add default via "$CLIENT.2"
  in_ns "$NAME" iptables -w -t nat -A POSTROUTING -s "$PODS.0.0/16" -o out0 -j MASQUERADE
  for n in $(seq 2 "$NODES"); do
    ns=$(ns_of "$n"); ip netns add "$ns"; ip -n "$ns" link set lo up
    in_ns "$ns" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip -n "$NAME" link add "node$n" type veth peer name eth0 netns "$ns"
    ip -n "$NAME" link set "node$n" master br0 up
    ip -n "$ns" addr add "$NODE_NET.$n/24" dev eth0; ip -n "$ns" link set eth0 up
    ip -n "$ns" route add default via "$NODE_NET.1"
  done
  for n in $(seq "$NODES"); do for m in $(seq "$NODES"); do
    [ "$n" = "$m" ] || ip -n "$(ns_of "$n")" route add "$PODS.$((m - 1)).0/24" via "$NODE_NET.$m"
  done; done
}

control_plane() {
  start "$NAME" etcd "$OUT/bin/etcd" --data-dir "$DIR/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380 \
    --unsafe-no-fsync --log-level warn
  local more=()
  # Without kube-proxy no ClusterIP is reachable, so webhooks with a Service go to its endpoints directly.
  [ "$LEVEL" = full ] || more=(--enable-aggregator-routing=true)
  start "$NAME" apiserver "$OUT/bin/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --bind-address=0.0.0.0 \
    --advertise-address="$NODE_NET.1" --cert-dir="$DIR/pki" --tls-cert-file="$DIR/pki/apiserver.crt" --tls-private-key-file="$DIR/pki/apiserver.key" \
    --client-ca-file="$DIR/pki/ca.crt" --kubelet-client-certificate="$DIR/pki/to-kubelet.crt" --kubelet-client-key="$DIR/pki/to-kubelet.key" \
    --kubelet-certificate-authority="$DIR/pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
    --requestheader-client-ca-file="$DIR/pki/ca.crt" --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- \
    --proxy-client-cert-file="$DIR/pki/front-proxy.crt" --proxy-client-key-file="$DIR/pki/front-proxy.key" \
    --service-account-key-file="$DIR/pki/sa.pub" --service-account-signing-key-file="$DIR/pki/sa.key" \
    --service-account-issuer=https://kubernetes.default.svc.cluster.local --service-cluster-ip-range="$SERVICES" \
    --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --allow-privileged=true "${more[@]}"
  ready apiserver http "$NAME" https://127.0.0.1:6443/readyz --cert "$DIR/pki/admin.crt" --key "$DIR/pki/admin.key"
  start "$NAME" controller-manager "$OUT/bin/kube-controller-manager" --kubeconfig="$DIR/kcm.kubeconfig" --authentication-kubeconfig="$DIR/kcm.kubeconfig" \
    --authorization-kubeconfig="$DIR/kcm.kubeconfig" --service-account-private-key-file="$DIR/pki/sa.key" --root-ca-file="$DIR/pki/ca.crt" \
    --cluster-signing-cert-file="$DIR/pki/ca.crt" --cluster-signing-key-file="$DIR/pki/ca.key" --use-service-account-credentials=true \
    --leader-elect=false --bind-address=127.0.0.1 --kube-api-qps=200 --kube-api-burst=400
}

node_files() { # node_files N: configuration of containerd, CNI, kubelet and kube-proxy
  local n=$1 d=$DIR/node$1 main
  mkdir -p "$d"/{cni,podlogs,ipam}
  cat >"$d/containerd.toml" <<T
version = 3
root = "$d/ctrd"
state = "$d/run"
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.snapshotter.v1.blockfile", "io.containerd.snapshotter.v1.erofs", "io.containerd.differ.v1.erofs"]
[grpc]
  address = "$d/containerd.sock"
[ttrpc]
  address = "$d/containerd.sock.ttrpc"
[plugins.'io.containerd.internal.v1.opt']
  path = "$d/opt"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "$PAUSE"
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ["$OUT/bin"]
  conf_dir = "$d/cni"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
    BinaryName = "$OUT/bin/runc"
    Root = "$d/runc"
    SystemdCgroup = false
T
  # ptp and not bridge: pod-to-pod traffic is routed, so kube-proxy's rules see it on a kernel without br_netfilter too.
  main='{"type":"ptp","ipMasq":false,"ipam":{"type":"host-local","dataDir":"'$d/ipam'","ranges":[[{"subnet":"'$PODS.$((n - 1)).0/24'"}]],"routes":[{"dst":"0.0.0.0/0"}]}}'
  echo '{"cniVersion":"1.0.0","name":"pods","plugins":['"$main"',{"type":"portmap","capabilities":{"portMappings":true}}]}' >"$d/cni/10-pods.conflist"
  echo "nameserver $NODE_NET.1" >"$d/resolv.conf"
  cat >"$d/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_NET.$n
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $DIR/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $DIR/pki/kubelet$n.crt
tlsPrivateKeyFile: $DIR/pki/kubelet$n.key
cgroupDriver: cgroupfs
cgroupRoot: /$(ns_of "$n")
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: []
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $d/resolv.conf
containerRuntimeEndpoint: unix://$d/containerd.sock
podLogsDir: $d/podlogs
volumePluginDir: $d/volumeplugins
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "1Mi", nodefs.available: "0%", imagefs.available: "0%", nodefs.inodesFree: "0%", imagefs.inodesFree: "0%"}
maxPods: 200
syncFrequency: 5s
protectKernelDefaults: false
featureGates: {KubeletInUserNamespace: true}
Y
  cat >"$d/kube-proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $DIR/proxy.kubeconfig}
mode: iptables
clusterCIDR: $PODS.0.0/16
hostnameOverride: node$n
metricsBindAddress: 127.0.0.1:10249
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
iptables: {syncPeriod: 5s, minSyncPeriod: 100ms}
Y
}
cgroups() { # cgroups NAME: the kubelet's cgroupRoot, in every hierarchy
  local c
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$1"
    for c in $(cat /sys/fs/cgroup/cgroup.controllers); do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control 2>/dev/null || true; done
  else
    for c in /sys/fs/cgroup/*/; do [ "$c" = /sys/fs/cgroup/unified/ ] || mkdir -p "$c$1"; done
    for c in cpus mems; do [ ! -f /sys/fs/cgroup/cpuset/cpuset.$c ] || cat /sys/fs/cgroup/cpuset/cpuset.$c >"/sys/fs/cgroup/cpuset/$1/cpuset.$c"; done
  fi
}
dns_files() {
  # Names outside the cluster: DIR/hosts (read again every 500 ms), and NXDOMAIN for all others.
  echo "# address name..., for names outside the cluster" >"$DIR/hosts"
  printf '%s\n' '. 1 IN SOA ns.invalid. none.invalid. 1 60 60 60 1' '. 1 IN NS ns.invalid.' >"$DIR/root.zone"
  cat >"$DIR/Corefile" <<C
.:53 {
  bind $NODE_NET.1
  errors
  health 127.0.0.1:8080
  ready 127.0.0.1:8181
  kubernetes cluster.local in-addr.arpa ip6.arpa {
    kubeconfig $DIR/coredns.kubeconfig coredns@meshgate
    pods insecure
    fallthrough in-addr.arpa ip6.arpa
    ttl 5
  }
  hosts $DIR/hosts {
    reload 500ms
    fallthrough
  }
  file $DIR/root.zone .
  loadbalance
}
C
  cat >"$DIR/system.yaml" <<Y
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system, labels: {k8s-app: kube-dns, kubernetes.io/name: CoreDNS}}
spec:
  clusterIP: $DNS
  ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-host, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints: [{addresses: [$NODE_NET.1], conditions: {ready: true}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: system:coredns}
rules:
- {apiGroups: [""], resources: [endpoints, services, pods, namespaces, nodes], verbs: [list, watch, get]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: system:coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:coredns}
subjects: [{kind: User, name: coredns, apiGroup: rbac.authorization.k8s.io}]
Y
}
# A node's containerd and kubelet share a mount namespace: their mounts end with them, and the paths that
# they have compiled in (device plugin socket, log links, CNI results, shim sockets) are the node's own.
NODE_MOUNTS='for p in /var/lib/kubelet /var/lib/cni /var/log/containers /run/containerd; do mkdir -p "$p" "$0/host$p"; mount --bind "$0/host$p" "$p"; done; exec "$@"'
start_containerd() { # N
  local n=$1
  start "$(ns_of "$n")" "containerd$n" unshare --mount --propagation slave -- sh -ec "$NODE_MOUNTS" "$DIR/node$n" "$OUT/bin/containerd" -c "$DIR/node$n/containerd.toml"
}
start_kubelet() { # N: and kube-proxy; containerd runs
  local n=$1
  start "$(ns_of "$n")" "kubelet$n" nsenter --mount="/proc/$(pids "containerd$n")/ns/mnt" -- "$OUT/bin/kubelet" --config="$DIR/node$n/kubelet.yaml" --kubeconfig="$DIR/node$n.kubeconfig" \
    --hostname-override="node$n" --node-ip="$NODE_NET.$n" --root-dir="$DIR/node$n/kubelet" --cert-dir="$DIR/node$n/kubelet-pki"
  start "$(ns_of "$n")" "kube-proxy$n" "$OUT/bin/kube-proxy" --config="$DIR/node$n/kube-proxy.yaml"
}
node_ready() { kubectl get node "node$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null | grep -q True; }
kubectl() { in_ns "$NAME" env KUBECONFIG="$DIR/admin.kubeconfig" "$OUT/bin/kubectl" --cache-dir="$DIR/kubectl-cache" "$@"; }

load() { # load N IMAGE.tar...: import, then wait until the CRI side knows the image (an event, so a little later)
  local n=$1 f end=$((SECONDS + DEADLINE)); shift
  for f in "$@"; do ctr "$n" images import --local "$f" >>"$DIR/log/load.log" 2>&1 || { tail -n 3 "$DIR/log/load.log" >&2; die "cannot import $f"; }; done
  while ctr "$n" images ls 2>/dev/null | tail -n +2 | grep -qv io.cri-containerd.image=managed; do
    [ $SECONDS -lt $end ] || die "containerd's CRI does not list an imported image after $DEADLINE s"
    sleep 0.05
  done
}

up() {
  LEVEL=full NODES=1 LB=yes NAME=mg-$(printf %s "$DIR" | sha256sum | cut -c1-8)
  local images=() n part t0
  while [ $# -gt 0 ]; do case $1 in
    --control-plane) LEVEL=control-plane; shift ;;
    --nodes) NODES=$2; shift 2 ;;
    --name) NAME=$2; shift 2 ;;
    --no-lb) LB=no; shift ;;
    --load) images+=("$(realpath "$2")"); shift 2 ;;
    *) die "up: unknown option $1" ;;
  esac; done
  [ "$LEVEL" = full ] || { NODES=1; LB=no; }
  OUT=$(realpath -m "${MESHGATE_CLUSTER_OUT:?set it to the folder that build.sh built}")
  PAUSE=registry.test/pause:1
  for part in bin/kubetools $([ "$LEVEL" = control-plane ] || echo bin/containerd bin/runc bin/ptp bin/coredns img/pause.tar); do
    [ -e "$OUT/$part" ] || die "$OUT has no $part: run build.sh"
  done
  if [ -f "$DIR/config" ]; then
    if [ "$(cat "$DIR/options" 2>/dev/null)" = "$LEVEL $NODES $LB" ] && (config; parts_alive); then
      config; echo "up already: $NAME, $LEVEL, KUBECONFIG=$DIR/admin.kubeconfig"
      [ ${#images[@]} -eq 0 ] || for n in $(seq "$NODES"); do load "$n" "${images[@]}"; done
      return
    fi
    (config; down) >/dev/null
  fi
  [ -z "$(find "$DIR" -mindepth 1 -maxdepth 1 ! -name log ! -name .lock)" ] || die "$DIR is neither empty nor a cluster's"
  [ ! -e "/run/netns/$NAME" ] || die "there is a network namespace $NAME already; another cluster has this name"
  rm -rf "$DIR/log"; mkdir -p "$DIR"/{log,pid,pki}
  printf '%s\n' "NAME=$NAME" "LEVEL=$LEVEL" "NODES=$NODES" "LB=$LB" "OUT=$OUT" "PAUSE=$PAUSE" >"$DIR/config"
  trap '[ $? = 0 ] || { echo "cluster.sh: up failed, taking it down" >&2; (down) >/dev/null 2>&1; }' EXIT
  t0=$(date +%s%N)
  network
  pki
  kubeconfig admin "$DIR/admin.kubeconfig"; kubeconfig kcm "$DIR/kcm.kubeconfig"
  if [ "$LEVEL" = full ]; then   # containerd needs nothing of the control plane, so it starts beside it
    for part in scheduler proxy coredns; do kubeconfig $part "$DIR/$part.kubeconfig"; done
    for n in $(seq "$NODES"); do
      kubeconfig "node$n" "$DIR/node$n.kubeconfig"; node_files "$n"; cgroups "$(ns_of "$n")"
      start_containerd "$n"
    done
  fi
  control_plane
  if [ "$LEVEL" = full ]; then
    start "$NAME" scheduler "$OUT/bin/kube-scheduler" --kubeconfig="$DIR/scheduler.kubeconfig" --authentication-kubeconfig="$DIR/scheduler.kubeconfig" \
      --authorization-kubeconfig="$DIR/scheduler.kubeconfig" --leader-elect=false --bind-address=127.0.0.1
    dns_files
    kubectl apply -f "$DIR/system.yaml" >"$DIR/log/system.log" 2>&1 || { cat "$DIR/log/system.log" >&2; die "cannot apply $DIR/system.yaml"; }
    start "$NAME" coredns "$OUT/bin/coredns" -conf "$DIR/Corefile"
    [ "$LB" = no ] || start "$NAME" lb "$OUT/bin/lb" --kubeconfig "$DIR/admin.kubeconfig" --first "$NODE_NET.100" --health 127.0.0.1:10299
    for n in $(seq "$NODES"); do
      ready "containerd$n" ctr "$n" version
      load "$n" "$OUT/img/pause.tar" "${images[@]}"
      start_kubelet "$n"
    done
  fi
  ready controller-manager http "$NAME" https://127.0.0.1:10257/healthz
  ready controller-manager kubectl get serviceaccount default
  ready controller-manager kubectl get configmap kube-root-ca.crt
  if [ "$LEVEL" = full ]; then
    ready scheduler http "$NAME" https://127.0.0.1:10259/healthz
    ready coredns http "$NAME" http://127.0.0.1:8181/ready
    [ "$LB" = no ] || ready lb http "$NAME" http://127.0.0.1:10299/readyz
    for n in $(seq "$NODES"); do
      ready "kubelet$n" node_ready "$n"
      ready "kube-proxy$n" http "$(ns_of "$n")" http://127.0.0.1:10256/healthz
    done
  fi
  echo "$LEVEL $NODES $LB" >"$DIR/options"
  trap - EXIT
  echo "up in $(took "$t0") s: $NAME, $LEVEL, KUBECONFIG=$DIR/admin.kubeconfig"
}
took() { awk -v a="$1" -v b="$(date +%s%N)" 'BEGIN{printf "%.1f", (b - a) / 1e9}'; }

parts_alive() {
  local f
  [ -e "/run/netns/$NAME" ] && [ -f "$DIR/options" ] || return 1
  for f in "$DIR"/pid/*; do [ -n "$(pids "${f##*/}")" ] || return 1; done
}
status() {
  local f pid ok=0
  echo "name $NAME, level $LEVEL, nodes $NODES, parts from $OUT"
  for f in "$DIR"/pid/*; do
    pid=$(pids "${f##*/}")
    if [ -n "$pid" ]; then echo "${f##*/}: pid $pid, $(awk '/VmRSS/{print int($2/1024)}' "/proc/$pid/status") MiB"
    else echo "${f##*/}: NOT RUNNING"; ok=1; fi
  done
  [ $ok = 1 ] || [ "$LEVEL" != full ] || kubectl get nodes -o wide
  return $ok
}

# stop SIGNAL SECONDS PID...: signals, then waits until all are gone, then kills those left
stop() {
  local sig=$1 end=$((SECONDS + $2)) p left still; shift 2
  left="$*"; [ -z "$left" ] || kill -"$sig" $left 2>/dev/null || true
  while [ -n "$left" ]; do
    still=""
    for p in $left; do
      [ ! -d "/proc/$p" ] || [ "$(awk '/^State/{print $2}' "/proc/$p/status" 2>/dev/null)" = Z ] || still+=" $p"
    done
    left=$still
    [ -n "$left" ] || break
    [ $SECONDS -lt $end ] || { kill -KILL $left 2>/dev/null || true; break; }
    sleep 0.02
  done
}
# end_shims FOLDER: programs of OUT whose command line names a path below FOLDER
end_shims() {
  local p left=()
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    case $(readlink "/proc/$p/exe" 2>/dev/null || true) in
      "$OUT"/bin/*) ! tr '\0' ' ' <"/proc/$p/cmdline" 2>/dev/null | grep -qF "$1" || left+=("$p") ;;
    esac
  done
  stop KILL 5 "${left[@]}"
}
end_pods() { # N: what runs in the pods' cgroups
  local c
  for c in 1 2 3; do stop KILL 5 $(find /sys/fs/cgroup -path "*/$(ns_of "$1")/*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); done
}
# As if the power had failed: nothing ends in order; what is in memory is gone (processes, mounts, /run, rules of the kernel), what is on
# the disk stays. The control plane goes on, as if it were on another machine.
reboot() {
  local n=${1:-1} ns t0; t0=$(date +%s%N); ns=$(ns_of "$n")
  [ "$LEVEL" = full ] && [ "$n" -le "$NODES" ] || die "there is no node $n"
  stop KILL 5 $(pids "kubelet$n" "kube-proxy$n" "containerd$n")
  end_shims "$DIR/node$n/"
  end_pods "$n"
  rm -rf "$DIR/node$n"/{run,runc,containerd.sock,containerd.sock.ttrpc} "$DIR/node$n/host/run"
  # Of the node's own rules only the way out is not kube-proxy's or CNI's.
  in_ns "$ns" sh -c 'for table in nat filter mangle; do iptables -w -t $table -F; iptables -w -t $table -X; done'
  [ "$n" != 1 ] || in_ns "$NAME" iptables -w -t nat -A POSTROUTING -s "$PODS.0.0/16" -o out0 -j MASQUERADE
  start_containerd "$n"; ready "containerd$n" ctr "$n" version
  start_kubelet "$n"
  ready "kubelet$n" http "$ns" "https://$NODE_NET.$n:10250/healthz" --cert "$DIR/pki/to-kubelet.crt" --key "$DIR/pki/to-kubelet.key"
  ready "kube-proxy$n" http "$ns" http://127.0.0.1:10256/healthz
  echo "rebooted node$n in $(took "$t0") s"
}
down() {
  local n ns p t0 left callers; t0=$(date +%s%N)
  # Kubelets first, so that nothing is started again. The control plane's data is thrown away, so it is killed.
  for n in $(seq "$NODES"); do stop KILL 5 $(pids "kubelet$n" "kube-proxy$n"); done
  stop KILL 5 $(pids lb coredns scheduler controller-manager apiserver etcd)
  for n in $(seq "$NODES"); do stop KILL 5 $(pids "containerd$n"); done
  end_shims "$DIR/"
  for n in $(seq "$NODES"); do end_pods "$n"; done
  # And what `exec` has left in the network namespaces, but for the callers of this script.
  left=(); callers=" $$ "; p=$PPID
  while [ "${p:-0}" -gt 1 ]; do callers+="$p "; p=$(awk '/^PPid/{print $2}' "/proc/$p/status" 2>/dev/null || true); done
  for ns in "$NAME-client" $(for n in $(seq "$NODES"); do ns_of "$n"; done); do
    [ -e "/run/netns/$ns" ] || continue
    for p in $(ip netns pids "$ns"); do [[ $callers == *" $p "* ]] || left+=("$p"); done
  done
  stop TERM 2 "${left[@]}"
  for n in 1 2 3; do   # mounts can be stacked
    awk -v d="$DIR/" 'index($5, d) == 1 {print $5}' /proc/self/mountinfo | sort -r | xargs -r -n 1 umount -l 2>/dev/null || true
  done
  for n in $(seq "$NODES"); do
    ns=$(ns_of "$n")
    for p in $(seq 50); do   # a cgroup can be busy for a moment after its last process has gone
      find /sys/fs/cgroup/*/"$ns" /sys/fs/cgroup/"$ns" -depth -type d -exec rmdir {} + 2>/dev/null || true
      [ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "$ns" 2>/dev/null)" ] || break
      sleep 0.1
    done
    [ ! -e "/run/netns/$ns" ] || ip netns del "$ns"
  done
  [ ! -e "/run/netns/$NAME-client" ] || ip netns del "$NAME-client"
  cd /; find "$DIR" -mindepth 1 -maxdepth 1 ! -name log ! -name .lock -exec rm -rf {} +
  echo "down in $(took "$t0") s"
}

case $VERB in
  up) mkdir -p "$DIR"; exec 9>"$DIR/.lock"; flock 9; up "$@" ;;
  down)
    [ -f "$DIR/config" ] || { echo "nothing to take down in $DIR"; exit 0; }
    exec 9>"$DIR/.lock"; flock 9; config; down ;;
  status) config; status ;;
  reboot) exec 9>"$DIR/.lock"; flock 9; config; reboot "$@" ;;
  kubectl)
    config
    exec nsenter --net="/run/netns/$NAME" -- env KUBECONFIG="$DIR/admin.kubeconfig" "$OUT/bin/kubectl" --cache-dir="$DIR/kubectl-cache" "$@" ;;
  exec)
    config; ns=$NAME
    case ${1:-} in --client) ns=$NAME-client; shift ;; --node) ns=$(ns_of "$2"); shift 2 ;; esac
    exec nsenter --net="/run/netns/$ns" -- env KUBECONFIG="$DIR/admin.kubeconfig" PATH="$OUT/bin:$PATH" "$@" ;;
  load) config; for n in $(seq "$NODES"); do load "$n" "$@"; done ;;
  lb)
    config; [ $# = 2 ] || usage; [[ $1 == */* ]] || set -- "default/$1" "$2"
    kubectl -n "${1%%/*}" patch service "${1#*/}" --subresource=status --type=merge \
      -p '{"status":{"loadBalancer":{"ingress":[{"ip":"'"$2"'","ipMode":"VIP"}]}}}' ;;
  env)
    config
    printf '%s\n' "NAME=$NAME" "NETNS=/run/netns/$NAME" "CLIENT_NETNS=/run/netns/$NAME-client" "KUBECONFIG=$DIR/admin.kubeconfig" "OUT=$OUT" "LEVEL=$LEVEL" "NODES=$NODES" ;;
  *) usage ;;
esac
