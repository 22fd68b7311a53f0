# The rest of the path with the edge alone; read by tutorial.sh.

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
load_begin
roll_everything
load_end

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
