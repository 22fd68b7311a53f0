#!/usr/bin/env bash
# tutorial.sh [--keep] [--bookinfo FILE] [--networking FOLDER] [--profile dev|release]
#
# The path of the tutorial on a full node: check and install with meshctl, apply bookinfo, read the address, open the page over http and https, change
# a rule, replace every backend and the gateway under load, restart the node, clean up. Prints each command and its outcome; stops at the first surprise.
# FILE and FOLDER may be Istio's own, unmodified: image names are mapped to ours by a kustomize overlay.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd); root=$(cd "$here/../.." && pwd)
keep='' profile=release bookinfo=$root/deploy/samples/bookinfo/kube/bookinfo.yaml networking=$root/deploy/samples/bookinfo
while [ $# -gt 0 ]; do
  case $1 in
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
finish() {
  if [ -n "$keep" ]; then echo "kept: $here/cluster.sh kubectl $dir ..."; else cluster down "$dir" >/dev/null 2>&1 || true; rm -rf "$dir"; fi
  rm -rf "$work"
}
trap finish EXIT

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
within 60 "all pods are ready" kubectl wait --for=condition=Ready pods --all --timeout 1s

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

step "https with a secret of the gateway's namespace"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$work/key.pem" -out "$work/cert.pem" -days 2 \
  -subj /CN=bookinfo.example.com -addext subjectAltName=DNS:bookinfo.example.com 2>/dev/null
kubectl create -n meshgate-system secret tls bookinfo-credential --key "$work/key.pem" --cert "$work/cert.pem"
kubectl apply -f - <<'YAML'
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: bookinfo-secure }
spec:
  selector: { istio: ingressgateway }
  servers:
    - port: { number: 443, name: https, protocol: HTTPS }
      tls: { mode: SIMPLE, credentialName: bookinfo-credential }
      hosts: [bookinfo.example.com]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: bookinfo-secure }
spec:
  hosts: [bookinfo.example.com]
  gateways: [bookinfo-secure]
  http: [{ route: [{ destination: { host: productpage, port: { number: 9080 } } }] }]
YAML
secure() { outside curl -s --max-time 5 --cacert "$work/cert.pem" --connect-to "bookinfo.example.com:443:$INGRESS_HOST:$SECURE_INGRESS_PORT" https://bookinfo.example.com/productpage | grep -q "Simple Bookstore App"; }
within 30 "the productpage is served over https" secure

step "kubectl wait --for=condition=Programmed gateways,virtualservices"
programmed() { kubectl wait --for=condition=Programmed gateways.networking.istio.io,virtualservices.networking.istio.io --all --timeout 1s; }
within 30 "every Gateway and VirtualService is programmed" programmed
kubectl get virtualservices

step "meshctl version, meshctl proxy-status"
versions=$(meshctl version)
echo "$versions"
case $versions in *controller*proxy*) ;; *) die "the controller or the gateway tells no version" ;; esac
told=$(meshctl proxy-status)
echo "$told"
case $told in *STALE* | *REFUSED*) die "a gateway is behind" ;; *SYNCED*) ;; *) die "no gateway is connected" ;; esac
meshctl analyze -A

step "kubectl apply of a rule that cannot work"
bad() { kubectl apply -f - <<'YAML'
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: bad }
spec:
  hosts: [bad.example.com]
  gateways: [bookinfo-gateway]
  http: [{ match: [{ uri: { regex: "(" } }], route: [{ destination: { host: productpage } }] }]
YAML
}
refused=$(bad 2>&1) && die "it was stored: $refused"
echo "$refused"
case $refused in *validate.meshgate.io*) ;; *) die "it was not the webhook that refused it" ;; esac

step "kubectl rollout restart of every backend and of the gateway, one after the other, under k6"
# Pages of the edge, from outside of the cluster. What fails is what the edge answers. Between the services there is no mesh: a call of
# the page to details or reviews that fails in kube-proxy's hands leaves a part of the page out, is counted beside, and judged by nobody.
"$here/cluster.sh" exec "$dir" --client env BASE="http://$INGRESS_HOST:$INGRESS_PORT" SUMMARY="$work/k6.json" \
  k6 run --quiet --no-usage-report "$root/benches/k6/rolling.js" >"$work/k6.log" 2>&1 &
load=$!
started() { grep -q 'first page' "$work/k6.log"; }
ended() { ! kill -0 $load 2>/dev/null; }
within 30 "k6 has the first pages" started
roll() { # NAMESPACE DEPLOYMENT: replaces its pods, and waits until the old ones are gone
  local selector
  kubectl rollout restart -n "$1" "deployment/$2" >/dev/null
  within 120 "$2 is replaced" kubectl rollout status -n "$1" "deployment/$2" --timeout 1s
  selector=$(kubectl get deployment -n "$1" "$2" -o json | jq -r '.spec.selector.matchLabels | to_entries | map("\(.key)=\(.value)") | join(",")')
  within 90 "$2 of before is gone" settled "$1" "$selector"
}
settled() { [ "$(kubectl get pods -n "$1" -l "$2" -o json | jq '[.items[] | select(.metadata.deletionTimestamp)] | length')" = 0 ]; }
for deployment in details-v1 ratings-v1 reviews-v1 reviews-v2 reviews-v3 productpage-v1; do roll default "$deployment"; done
roll meshgate-system istio-ingressgateway
kill -INT $load
within 60 "k6 ends" ended
wait $load || true
sed -n '/requests/p' "$work/k6.log"
[ -s "$work/k6.json" ] || { cat "$work/k6.log" >&2; die "k6 says nothing"; }
[ "$(jq .failed "$work/k6.json")" = 0 ] || die "requests failed while pods were replaced"
[ "$(jq .requests "$work/k6.json")" -ge 200 ] || die "too few requests to tell"

step "the node restarts: nothing ends in order, nobody helps"
restarts() { kubectl get pods -A -o json | jq '[.items[].status.containerStatuses[]?.restartCount] | add'; }
before=$(restarts)
"$here/cluster.sh" reboot "$dir"
back=$SECONDS
within 120 "the productpage is served again" titled
echo "after $((SECONDS - back)) s"
within 30 "over https too" secure
within 60 "all pods are ready" kubectl wait --for=condition=Ready pods --all -A --timeout 1s
[ "$(restarts)" -gt "$before" ] || die "no container was started again"
synced() { meshctl proxy-status | grep -q SYNCED; }
within 30 "the gateway has what the controller says" synced

step "an image that does not exist: meshctl says so, and the gateway serves on"
outcome=$(meshctl install --set tag=none --timeout 15s 2>&1) && die "it was installed: $outcome"
echo "$outcome"
case $outcome in *ErrImagePull* | *ImagePullBackOff*) ;; *) die "it does not say why" ;; esac
titled || die "the productpage is not served any more"
meshctl install --timeout 90s >/dev/null

step "meshctl uninstall --purge -y: nothing is left"
kubectl delete -k "$work" >/dev/null
meshctl uninstall --purge -y
left=$(kubectl get namespaces,crds,clusterroles,clusterrolebindings,validatingwebhookconfigurations,configmaps,secrets,leases -A -o name | grep -E 'meshgate|istio' || true)
[ -z "$left" ] || die "left behind: $left"
echo
echo "tutorial: all as expected"
