#!/usr/bin/env bash
# tutorial.sh [--mesh] [--keep] [--bookinfo FILE] [--networking FOLDER] [--profile dev|release]
#
# The path of the tutorial on a full node: check and install with meshctl, apply bookinfo, read the address, open the page over http and https, change
# a rule, replace every backend and the gateway under load, restart the node, clean up. With --mesh every pod has a sidecar, and what is between the
# services is looked at: mutual TLS, rules, policies, crashes. Prints each command and its outcome; stops at the first surprise.
# FILE and FOLDER may be Istio's own, unmodified: image names are mapped to ours by a kustomize overlay.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd); root=$(cd "$here/../.." && pwd)
mesh='' keep='' profile=release bookinfo=$root/deploy/samples/bookinfo/kube/bookinfo.yaml networking=$root/deploy/samples/bookinfo
while [ $# -gt 0 ]; do
  case $1 in
    --mesh) mesh=yes ;;
    --keep) keep=yes ;;
    --bookinfo) bookinfo=$2; shift ;;
    --networking) networking=$2; shift ;;
    --profile) profile=$2; shift ;;
    *) echo "tutorial.sh: unknown option $1" >&2; exit 64 ;;
  esac
  shift
done
[ "$profile" = dev ] && built=debug || built=$profile
export MESHGATE_CLUSTER_OUT="${MESHGATE_CLUSTER_OUT:-${MESHGATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/meshgate}/cluster}"
dir=$(mktemp -d /tmp/mgt.XXXX); work=$(mktemp -d)
cluster() { "$here/cluster.sh" "$@"; }
kubectl() { "$here/cluster.sh" kubectl "$dir" "$@"; }
meshctl() { cluster exec "$dir" "$bin/meshctl" --kubeconfig "$dir/admin.kubeconfig" "$@"; }
outside() { "$here/cluster.sh" exec "$dir" --client "$@"; }
step() { printf '\n$ %s\n' "$*"; }
die() { echo "tutorial: $*" >&2; kubectl get pods -A -o wide >&2 || true; kubectl logs -n meshgate-system -l app.kubernetes.io/part-of=meshgate --tail 20 >&2 || true; exit 1; }
# within SECONDS WHAT COMMAND...: until the command succeeds.
within() {
  local seconds=$1 what=$2 end=$((SECONDS + $1)); shift 2
  until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $end ] || die "$what did not happen within $seconds s"; sleep 0.2; done
  echo "ok: $what"
}
# load_begin: pages of the edge, from outside of the cluster, until load_end. load_end [whole]: none may have failed; whole: and none may lack a part
# because a call between the services failed (without a mesh such calls are in kube-proxy's hands, and judged by nobody).
load_begin() {
  "$here/cluster.sh" exec "$dir" --client env BASE="http://$INGRESS_HOST:$INGRESS_PORT" SUMMARY="$work/k6.json" \
    k6 run --quiet --no-usage-report "$root/benches/k6/rolling.js" >"$work/k6.log" 2>&1 &
  load=$!
  within 30 "k6 has the first pages" grep -q 'first page' "$work/k6.log"
}
load_end() {
  ended() { ! kill -0 $load 2>/dev/null; }
  kill -INT $load
  within 60 "k6 ends" ended
  wait $load || true
  sed -n '/requests/p' "$work/k6.log"
  [ -s "$work/k6.json" ] || { cat "$work/k6.log" >&2; die "k6 says nothing"; }
  [ "$(jq .failed "$work/k6.json")" = 0 ] || die "requests failed"
  [ "$(jq .requests "$work/k6.json")" -ge 100 ] || die "too few requests to tell"
  [ "${1:-}" != whole ] || [ "$(jq .incomplete "$work/k6.json")" = 0 ] || die "calls between the services failed"
}
roll() { # NAMESPACE DEPLOYMENT: replaces its pods, and waits until the old ones are gone
  local selector
  kubectl rollout restart -n "$1" "deployment/$2" >/dev/null
  within 120 "$2 is replaced" kubectl rollout status -n "$1" "deployment/$2" --timeout 1s
  selector=$(kubectl get deployment -n "$1" "$2" -o json | jq -r '.spec.selector.matchLabels | to_entries | map("\(.key)=\(.value)") | join(",")')
  within 90 "$2 of before is gone" settled "$1" "$selector"
}
settled() { [ "$(kubectl get pods -n "$1" -l "$2" -o json | jq '[.items[] | select(.metadata.deletionTimestamp)] | length')" = 0 ]; }
roll_everything() {
  local deployment
  for deployment in details-v1 ratings-v1 reviews-v1 reviews-v2 reviews-v3 productpage-v1; do roll default "$deployment"; done
  roll meshgate-system istio-ingressgateway
}
finish() {
  if [ -n "$keep" ]; then echo "kept: $here/cluster.sh kubectl $dir ..."; else cluster down "$dir" >/dev/null 2>&1 || true; rm -rf "$dir"; fi
  rm -rf "$work"
}
trap finish EXIT
trap 'echo "tutorial: line $LINENO of ${BASH_SOURCE[0]} failed: $BASH_COMMAND" >&2' ERR

step "build"
"$here/build.sh" "$MESHGATE_CLUSTER_OUT"
(cd "$root" && cargo build --locked --profile "$profile" -p gateway --bin meshgate --bin meshgate-sidecar -p controller --bin meshgate-controller --bin meshctl -p e2e --bin bookinfo)
bin="${CARGO_TARGET_DIR:-$root/target}/$built"
"$here/images.sh" "$work/images" "$built"

# shellcheck source=benches/k6/tool.sh
. "$root/benches/k6/tool.sh"

step "minikube start; minikube image load ..."
# shellcheck disable=SC2046
cluster up "$dir" $(printf -- '--load %s ' "$work"/images/*.tar)

step "meshctl precheck"
meshctl precheck

step "meshctl install"
meshctl install --timeout 90s
again=$(meshctl install --timeout 90s)
[ -z "$(grep -v ' unchanged$' <<<"$again")" ] || die "a second installation changes something: $again"

if [ -n "$mesh" ]; then
  step "kubectl label namespace default istio-injection=enabled"
  kubectl label namespace default istio-injection=enabled
fi

step "kubectl apply -f bookinfo.yaml"
{
  echo "resources: [bookinfo.yaml]"; echo "images:"
  for name in productpage-v1 details-v1 ratings-v1 reviews-v1 reviews-v2 reviews-v3; do
    for registry in registry.istio.io/release docker.io/istio; do
      echo "  - { name: $registry/examples-bookinfo-$name, newName: meshgate/bookinfo-$name, newTag: 0.1.0 }"
    done
  done
} >"$work/kustomization.yaml"
cp "$bookinfo" "$work/bookinfo.yaml"
kubectl apply -k "$work"
within 120 "all pods are ready" kubectl wait --for=condition=Ready pods --all --timeout 1s

step "kubectl apply -f gateway, destination rules"
if [ -f "$networking/bookinfo-gateway.yaml" ]; then
  kubectl apply -f "$networking/bookinfo-gateway.yaml" -f "$networking/destination-rule-all.yaml"
else
  kubectl apply -f "$networking/gateway.yaml" -f "$networking/destination-rules.yaml"
fi

step "minikube tunnel; INGRESS_HOST=\$(kubectl -n \$INGRESS_NS get service \$INGRESS_NAME ...)"
address() { kubectl -n meshgate-system get service istio-ingressgateway -o jsonpath="$1"; }
has_address() { [ -n "$(address '{.status.loadBalancer.ingress[0].ip}')" ]; }
within 30 "the load balancer has an address" has_address
INGRESS_HOST=$(address '{.status.loadBalancer.ingress[0].ip}')
INGRESS_PORT=$(address '{.spec.ports[?(@.name=="http2")].port}')
SECURE_INGRESS_PORT=$(address '{.spec.ports[?(@.name=="https")].port}')
echo "INGRESS_HOST=$INGRESS_HOST INGRESS_PORT=$INGRESS_PORT SECURE_INGRESS_PORT=$SECURE_INGRESS_PORT"
page() { outside curl -s --max-time 5 "http://$INGRESS_HOST:$INGRESS_PORT/productpage"; }
titled() { page | grep -q "<title>Simple Bookstore App</title>"; }
within 30 "the productpage is served over http" titled

if [ -n "$mesh" ]; then
  # shellcheck source=tests/cluster/tutorial_mesh.sh
  . "$here/tutorial_mesh.sh"
else
  # shellcheck source=tests/cluster/tutorial_edge.sh
  . "$here/tutorial_edge.sh"
fi

if [ -n "$keep" ]; then
  echo "tutorial: all as expected, and left as it is"
  exit 0
fi
step "meshctl uninstall --purge -y: nothing is left"
kubectl delete -k "$work" >/dev/null
meshctl uninstall --purge -y
left=$(kubectl get namespaces,crds,clusterroles,clusterrolebindings,validatingwebhookconfigurations,mutatingwebhookconfigurations,configmaps,secrets,leases -A -o name | grep -E 'meshgate|istio' || true)
[ -z "$left" ] || die "left behind: $left"
echo
echo "tutorial: all as expected"
