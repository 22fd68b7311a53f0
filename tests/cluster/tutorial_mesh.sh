# The rest of the path with a sidecar in every pod; read by tutorial.sh.

PODS=10.244.0.0/16
scenario() { kubectl apply -f "$root/deploy/samples/bookinfo/scenarios/$1.yaml"; }
pod_ip() { kubectl get pods -n "${2:-default}" -l "$1" -o jsonpath='{.items[0].status.podIP}'; }
on_node() { "$here/cluster.sh" exec "$dir" --node 1 "$@"; }
metrics() { on_node curl -s --max-time 5 "http://$1:15020/stats/prometheus"; } # POD-ADDRESS
as() { outside curl -s --max-time 12 --cookie "session-user=$1" "http://$INGRESS_HOST:$INGRESS_PORT/productpage"; }
# processes PROGRAM: of this cluster alone: the shim that is their parent has the cluster's folder among its arguments.
processes() {
  local process parent
  for process in $(pgrep -x "${1:0:15}" || true); do
    parent=$(awk '{ print $4 }' "/proc/$process/stat" 2>/dev/null || true)
    if tr '\0' ' ' <"/proc/${parent:-0}/cmdline" 2>/dev/null | grep -q "$dir/"; then echo "$process"; fi
  done
}
# pages COUNT [USER]: so many pages, one line each: red, black, none, or what the page lacks.
pages() {
  local i body
  for i in $(seq "$1"); do
    body=$(as "${2:-}")
    case $body in
      *"reviews are currently unavailable"*) echo no-reviews ;;
      *"atings"*"unavailable"*) echo no-ratings ;;
      *"stars red"*) echo red ;;
      *"stars black"*) echo black ;;
      *"Simple Bookstore"*) echo none ;;
      *) echo "failed: ${body:0:80}" ;;
    esac
  done
}
only() { [ "$(pages "$1" "$2" | sort -u)" = "$3" ]; } # COUNT USER WHAT

step "kubectl get pods"
kubectl get pods
[ -z "$(kubectl get pods --no-headers | awk '$2 != "2/2" || $3 != "Running"')" ] || die "not every pod is 2/2"
containers=$(kubectl get pods -o jsonpath='{range .items[*]}{range .spec.initContainers[*]}{.name}={.restartPolicy} {end}{end}')
case $containers in *istio-proxy=Always*) ;; *) die "the sidecars are no native ones: $containers" ;; esac
told=$(meshctl proxy-status)
echo "$told"
case $told in *STALE* | *REFUSED*) die "a proxy is behind" ;; *SYNCED*) ;; *) die "no proxy is connected" ;; esac

step "what crosses between the pods while pages are read: nothing that can be read"
on_node python3 "$here/capture.py" 6 "$PODS" "HTTP/1.1" "GET /" "Simple Bookstore" "reviewer" "details" >"$work/capture.log" 2>&1 &
capture=$!
within 10 "the capture runs" grep -q capturing "$work/capture.log"
pages 20 >"$work/pages"
wait $capture || { cat "$work/capture.log" >&2; die "readable bytes between pods, or nothing was looked at"; }
cat "$work/capture.log"
! grep -q failed "$work/pages" || die "pages failed: $(sort "$work/pages" | uniq -c)"

step "every hop is mutual TLS, as the sidecars of the servers count"
for app in productpage details reviews ratings; do
  counted=$(metrics "$(pod_ip app=$app)" | grep '^istio_requests_total{' | grep 'reporter="destination"' || true)
  case $counted in *'connection_security_policy="mutual_tls"'*) ;; *) die "$app counts no request over mutual TLS: $counted" ;; esac
  case $counted in *'connection_security_policy="none"'*) die "$app was asked in clear: $counted" ;; esac
  echo "$app: $(grep -o 'source_principal="[^"]*"' <<<"$counted" | sort -u | tr '\n' ' ')"
done

step "PeerAuthentication STRICT for the mesh: plaintext is refused, the page is served"
plaintext() { on_node curl -s -o /dev/null --max-time 5 -w '%{http_code}' "http://$(pod_ip app=details):9080/details/0"; }
[ "$(plaintext)" = 200 ] || die "before, plaintext should be let in"
# Policies of the whole mesh stand where Istio's stand, unless the mesh's settings say otherwise.
kubectl create namespace istio-system
kubectl apply -n istio-system -f - <<'YAML'
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default }
spec: { mtls: { mode: STRICT } }
YAML
refused() { [ "$(plaintext)" = 000 ]; }
within 10 "plaintext is refused" refused
[ -z "$(pages 10 | grep -E 'failed|no-')" ] || die "the page needs plaintext"

step "reviews v1 for all; v2 for jason"
kubectl apply -f "$root/deploy/samples/bookinfo/scenarios/reviews-v1.yaml"
within 10 "all pages are of v1" only 10 "" none
scenario reviews-jason-v2
within 10 "jason sees black stars" only 10 jason black
only 10 "" none || die "others see them, too"

step "90 of 100 to v1, 10 to v2"
scenario reviews-90-10
jason_is_as_others() { [ "$(pages 20 jason | grep -c none)" -ge 10 ]; }
within 10 "jason is as others" jason_is_as_others
black=$(pages 200 | grep -c black || true)
echo "$black of 200 pages have black stars"
[ "$black" -ge 6 ] && [ "$black" -le 38 ] || die "that is not a tenth"

step "ratings: a delay of 7 s for jason, then an abort"
scenario reviews-v2
within 10 "all pages have black stars" only 10 "" black
scenario ratings-delay
late() { local begun=$SECONDS; [ "$(pages 1 jason)" = no-reviews ] && [ $((SECONDS - begun)) -ge 5 ]; }
within 40 "jason waits for six seconds and gets no reviews" late
only 5 "" black || die "others wait, too"
scenario ratings-abort
within 10 "jason gets no ratings" only 5 jason no-ratings
only 5 "" black || die "others get none, too"
kubectl delete virtualservice ratings >/dev/null

step "a mirror: v1 answers, v3 gets a copy of each request"
copies() { metrics "$(pod_ip app=reviews,version=v3)" | awk '/^istio_requests_total\{/ && /reporter="destination"/ { n += $NF } END { print n + 0 }'; }
kubectl apply -f - <<'YAML'
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews }
spec:
  hosts: [reviews]
  http: [{ route: [{ destination: { host: reviews, subset: v1 } }], mirror: { host: reviews, subset: v3 } }]
YAML
within 10 "all pages are of v1" only 10 "" none
before=$(copies)
only 20 "" none || die "v1 does not answer"
copied() { [ $(($(copies) - before)) -ge 20 ]; }
within 10 "v3 was sent 20 copies" copied
kubectl delete virtualservice reviews >/dev/null

step "AuthorizationPolicy: nothing is allowed, then what the page needs"
kubectl apply -f - <<'YAML'
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: allow-nothing }
spec: {}
YAML
status() { outside curl -s -o /dev/null --max-time 5 -w '%{http_code}' "http://$INGRESS_HOST:$INGRESS_PORT/productpage"; }
denied() { [ "$(status)" = 403 ]; }
within 10 "the page is denied" denied
allow() { # APP NAMESPACE/ACCOUNT...
  local app=$1 account principals=''; shift
  for account in "$@"; do principals="$principals\"cluster.local/ns/${account%/*}/sa/${account#*/}\", "; done
  kubectl apply -f - <<YAML
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: $app }
spec:
  selector: { matchLabels: { app: $app } }
  rules: [{ from: [{ source: { principals: [$principals] } }], to: [{ operation: { methods: [GET] } }] }]
YAML
}
allow productpage meshgate-system/istio-ingressgateway
within 10 "the page lacks details and reviews" only 5 "" no-reviews
allow details default/bookinfo-productpage
allow reviews default/bookinfo-productpage
allow ratings default/bookinfo-reviews
whole() { [ -z "$(pages 10 | grep -vE '^(none|black|red)$')" ]; }
within 10 "the page is whole" whole
status_of_post() { outside curl -s -o /dev/null --max-time 5 -w '%{http_code}' -d username=jason "http://$INGRESS_HOST:$INGRESS_PORT/login"; }
[ "$(status_of_post)" = 403 ] || die "POST is let through: $(status_of_post)"
kubectl delete authorizationpolicies --all >/dev/null
served() { [ "$(status)" = 200 ]; }
within 10 "without policies all is as before" served

step "a Job ends although it has a sidecar"
kubectl apply -f - <<'YAML'
apiVersion: batch/v1
kind: Job
metadata: { name: once }
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: once, image: "meshgate/bookinfo:0.1.0", args: [--help] }]
YAML
within 90 "the job is complete" kubectl wait --for=condition=Complete job/once --timeout 1s
[ "$(kubectl get pods -l job-name=once -o jsonpath='{.items[0].spec.initContainers[*].name}')" = "istio-init istio-proxy" ] || die "the job had no sidecar"
kubectl delete job once >/dev/null

step "a sidecar that is no native one: a container beside the application"
kubectl patch deployment ratings-v1 -p '{"spec":{"template":{"metadata":{"annotations":{"sidecar.istio.io/nativeSidecar":"false"}}}}}'
within 120 "ratings is replaced" kubectl rollout status deployment/ratings-v1 --timeout 1s
within 90 "ratings of before is gone" settled default app=ratings
beside=$(kubectl get pods -l app=ratings -o jsonpath='{.items[*].spec.containers[*].name}')
before=$(kubectl get pods -l app=ratings -o jsonpath='{.items[*].spec.initContainers[*].name}')
case $beside/$before in *istio-proxy*/istio-init) ;; *) die "it has other containers: $beside after $before" ;; esac
within 30 "the page is whole" whole

step "every pod is replaced under k6"
load_begin
roll_everything
load_end whole

step "the controller is away under k6"
load_begin
kubectl scale -n meshgate-system deployment meshgate-controller --replicas 0
gone() { [ -z "$(kubectl get pods -n meshgate-system -l app=meshgate-controller -o name)" ]; }
within 60 "the controller is gone" gone
pages 100 >"$work/pages"
! grep -qE 'failed|no-' "$work/pages" || die "pages failed: $(sort "$work/pages" | uniq -c)"
kubectl scale -n meshgate-system deployment meshgate-controller --replicas 1
within 60 "the controller is back" kubectl rollout status -n meshgate-system deployment/meshgate-controller --timeout 1s
load_end whole

step "a sidecar is killed: it comes back"
restarts() { kubectl get pods -l app=details -o json | jq '[.items[].status.initContainerStatuses[]?.restartCount] | add'; }
before=$(restarts)
ip=$(pod_ip app=details)
pid=
for process in $(processes meshgate-sidecar); do
  if nsenter -t "$process" -n ip -o addr 2>/dev/null | grep -q " $ip/"; then pid=$process; fi
done
[ -n "$pid" ] || die "no process of a sidecar has the address $ip"
kill -KILL "$pid"
restarted() { [ "$(restarts)" -gt "$before" ]; }
within 60 "it was started again" restarted
# Until then nobody is sent there, and there is no other one.
within 60 "it is ready again" kubectl wait pods -l app=details --for condition=Ready --timeout 1s
within 60 "the page is whole" whole

step "what it weighs, while pages are read and when nobody asks"
weigh() { # pages of a program that several processes run count for each of them in RSS, and once in PSS
  local program process
  for program in meshgate-sidecar meshgate-controller meshgate; do
    for process in $(processes $program); do
      awk -v p=$program '/^Rss:/ { r = $2 / 1024 } /^Pss:/ { s = $2 / 1024 } END { print p, r, s }' "/proc/$process/smaps_rollup" 2>/dev/null || true
    done
  done | awk '{ n[$1]++; r[$1] += $2; s[$1] += $3; if ($2 > m[$1]) m[$1] = $2; all += $2; shared += $3 }
    END { for (p in n) printf "%s: %d processes, RSS %.1f MB, largest %.1f MB; PSS %.1f MB\n", p, n[p], r[p], m[p], s[p]; printf "together: RSS %.1f MB, PSS %.1f MB\n", all, shared }'
}
load_begin
pages 100 >"$work/pages"
weigh
load_end whole
sleep 25 # what only the load needed of a program is given back within 10 s
weigh
kubectl delete namespace istio-system >/dev/null
