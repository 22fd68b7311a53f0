#!/usr/bin/env bash
# Bookinfo through Meshgate, from a clean clone: installs what is missing, builds, starts the demo app and the gateway,
# and says what to try. Ctrl-C stops everything; nothing is left behind but the build.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: bash deploy/quickstart.sh [--check] [--http-port N] [--https-port N] [--admin-port N] [--status-port N]

  --check          start, fetch the page over http and https, change a rule, stop; the exit code tells
  --http-port N    default 8080    (MESHGATE_HTTP_PORT)
  --https-port N   default 8443    (MESHGATE_HTTPS_PORT)
  --admin-port N   default 15000   (MESHGATE_ADMIN_PORT)
  --status-port N  default 15021   (MESHGATE_STATUS_PORT)

  MESHGATE_LOOPBACK=127.0.20  the /24 that the demo app listens in
  MESHGATE_PROFILE=release    cargo profile (dev: builds faster, runs slower)
EOF
}

http_port=${MESHGATE_HTTP_PORT:-8080}
https_port=${MESHGATE_HTTPS_PORT:-8443}
admin_port=${MESHGATE_ADMIN_PORT:-15000}
status_port=${MESHGATE_STATUS_PORT:-15021}
loopback=${MESHGATE_LOOPBACK:-127.0.20}
profile=${MESHGATE_PROFILE:-release}
check=false
while [ $# -gt 0 ]; do
  case $1 in
    --check) check=true ;;
    --http-port) http_port=${2:?"--http-port needs a number"}; shift ;;
    --https-port) https_port=${2:?"--https-port needs a number"}; shift ;;
    --admin-port) admin_port=${2:?"--admin-port needs a number"}; shift ;;
    --status-port) status_port=${2:?"--status-port needs a number"}; shift ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 64 ;;
  esac
  shift
done

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
sample=$root/deploy/samples/bookinfo
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; else bold='' plain=''; fi
say() { printf '%s\n' "$*"; }
step() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
fail() { printf 'quickstart: %s\n' "$*" >&2; exit 1; }

# --- What is missing? Say it first, then install it. ------------------------------------------------------------------

rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)

# True if the cargo that would run is new enough.
cargo_fits() {
  local have
  have=$(cd "$root" && cargo --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p') || return 1
  [ -n "$have" ] && [ "$(printf '%s\n%s\n' "$rust_wanted" "$have" | sort -V | head -n 1)" = "$rust_wanted" ]
}

[ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
packages=()
command -v cmake >/dev/null || packages+=(cmake)
command -v cc >/dev/null && command -v c++ >/dev/null && command -v make >/dev/null || packages+=(build-essential)
command -v pkg-config >/dev/null || packages+=(pkg-config)
command -v curl >/dev/null || packages+=(curl ca-certificates)
rust=none
if ! command -v cargo >/dev/null; then rust=install; elif ! cargo_fits; then rust=update; fi

step 'What this needs'
if [ ${#packages[@]} -eq 0 ]; then
  say '    build tools: all there'
else
  say "    will install with apt-get: ${packages[*]}"
fi
case $rust in
  none) say "    Rust: $(cargo --version)" ;;
  install) say "    will install the stable Rust toolchain with rustup (https://rustup.rs) into $HOME/.cargo and $HOME/.rustup" ;;
  update) say "    will get a newer stable Rust with rustup: at least $rust_wanted is needed" ;;
esac
say "    and builds into ${CARGO_TARGET_DIR:-$root/target} (the first build takes minutes, later ones seconds)"

if [ ${#packages[@]} -gt 0 ]; then
  command -v apt-get >/dev/null || fail "there is no apt-get here; please install by hand: ${packages[*]}"
  sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "neither root nor sudo; please install by hand: ${packages[*]}"
    sudo=(sudo)
  fi
  step "Installing ${packages[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
if [ "$rust" != none ]; then
  step 'Installing Rust'
  if command -v rustup >/dev/null; then
    rustup toolchain install stable --profile minimal
    export RUSTUP_TOOLCHAIN=stable
  else
    # An older Rust of the distribution may stay beside it.
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
      RUSTUP_INIT_SKIP_PATH_CHECK=yes sh -s -- -y --profile minimal --no-modify-path
    . "$HOME/.cargo/env"
    export PATH="$HOME/.cargo/bin:$PATH"
  fi
  cargo_fits || fail "cargo is still older than $rust_wanted: $(cargo --version 2>&1)"
fi

# --- Build --------------------------------------------------------------------------------------------------------

step "Building ($profile)"
(cd "$root" && cargo build --profile "$profile" -p gateway --bin meshgate -p e2e --bin bookinfo --no-default-features)
[ "$profile" = dev ] && out=debug || out=$profile
bin=${CARGO_TARGET_DIR:-$root/target}/$out

# --- Start --------------------------------------------------------------------------------------------------------

# True if somebody listens there.
taken() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }
for entry in "$http_port:--http-port" "$https_port:--https-port" "$admin_port:--admin-port" "$status_port:--status-port"; do
  port=${entry%%:*}
  [[ $port =~ ^[0-9]+$ ]] && [ "$port" -ge 1 ] && [ "$port" -le 65535 ] || fail "\`$port\` is no port number (${entry#*:})"
  ! taken 127.0.0.1 "$port" || fail "port $port is in use; choose another with ${entry#*:} N"
done
! taken "$loopback.1" 9080 || fail "$loopback.1:9080 is in use; choose other addresses with MESHGATE_LOOPBACK=127.0.N"

work=$(mktemp -d "${TMPDIR:-/tmp}/meshgate-quickstart.XXXXXX")
pids=()
stopping=false
finish() {
  local code=$?
  trap '' INT TERM
  if [ ${#pids[@]} -gt 0 ]; then
    kill -TERM "${pids[@]}" 2>/dev/null || true
    for _ in $(seq 100); do
      kill -0 "${pids[@]}" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "${pids[@]}" 2>/dev/null || true
    wait "${pids[@]}" 2>/dev/null || true
  fi
  rm -rf "$work"
  if $stopping; then
    say ''
    say 'Stopped; nothing is left behind.'
    code=0
  fi
  exit "$code"
}
trap finish EXIT
trap 'stopping=true; exit 0' INT TERM

step 'Starting the demo app and the gateway'
config=$work/config
mkdir "$config"
copy() { # sample file -> name in the configuration folder, with the chosen ports and addresses
  sed -e "s/number: 8080\b/number: $http_port/; s/number: 8443\b/number: $https_port/; s/\b127\.0\.20\./$loopback./" \
    "$sample/$1" >"$config/$2"
}
copy gateway.yaml gateway.yaml
copy destination-rules.yaml destination-rules.yaml
copy file-mode/services.yaml services.yaml
copy file-mode/internal-gateway.yaml internal-gateway.yaml
copy scenarios/details-v1.yaml details.yaml
copy scenarios/ratings-v1.yaml ratings.yaml
copy scenarios/reviews-v2.yaml reviews.yaml
cat >"$config/mesh-config.yaml" <<EOF
apiVersion: v1
kind: ConfigMap
metadata:
  name: istio
  namespace: istio-system
data:
  mesh: |
    accessLogFile: $work/access.log
EOF
"$bin/bookinfo" certificate --out "$work" --name localhost --name 127.0.0.1 --name "$(hostname 2>/dev/null || echo localhost)"
mv "$work/secret.yaml" "$config/secret.yaml"

"$bin/bookinfo" all --loopback "$loopback.1" --via "$loopback.10:9080" >"$work/bookinfo.log" 2>&1 &
pids+=($!)
"$bin/meshgate" run -f "$config" --admin "127.0.0.1:$admin_port" --status "127.0.0.1:$status_port" --drain-seconds 1 \
  >"$work/meshgate.log" 2>&1 &
pids+=($!)

logs() {
  for log in bookinfo meshgate; do
    say "--- $log:"
    tail -n 40 "$work/$log.log" || true
  done >&2
}
alive() { kill -0 "${pids[@]}" 2>/dev/null; }
page=http://127.0.0.1:$http_port/productpage
tls_page=https://localhost:$https_port/productpage
fetch() { curl -sS --max-time 10 --noproxy '*' "$@"; }
fetch_tls() { fetch --cacert "$work/tls.crt" --resolve "localhost:$https_port:127.0.0.1" "$tls_page"; }

deadline=$((SECONDS + 30))
until fetch "$page" 2>/dev/null | grep -q 'Reviews served by' && fetch_tls 2>/dev/null | grep -q 'Reviews served by'; do
  alive || { logs; fail 'it ended by itself; its last lines are above'; }
  [ $SECONDS -lt $deadline ] || { logs; fail 'the page did not come within 30 seconds; the logs are above'; }
  sleep 0.1
done

if $check; then
  step 'Checking'
  fetch "$page" | grep -q 'stars black' || { logs; fail 'the page over http shows no black stars'; }
  say '    ok: the page over http, black stars'
  fetch_tls | grep -q 'stars black' || { logs; fail 'the page over https shows no black stars'; }
  say '    ok: the page over https, certificate verified'
  copy scenarios/reviews-v3.yaml reviews.yaml
  deadline=$((SECONDS + 10))
  until fetch "$page" | grep -q 'stars red'; do
    alive && [ $SECONDS -lt $deadline ] || { logs; fail 'a changed rule was not live within 10 seconds'; }
    sleep 0.05
  done
  say '    ok: a rule changed on disk, red stars'
  copy scenarios/reviews-jason-v2.yaml reviews.yaml
  until ! fetch "$page" | grep -q 'class="stars'; do
    alive && [ $SECONDS -lt $deadline ] || { logs; fail 'the rule for jason was not live within 10 seconds'; }
    sleep 0.05
  done
  fetch -L -c "$work/cookies" -b "$work/cookies" -d username=jason "http://127.0.0.1:$http_port/login" |
    grep -q 'stars black' || { logs; fail 'jason does not see black stars after signing in'; }
  say '    ok: jason signed in, black stars for him alone'
  step 'Fine'
  exit 0
fi

cat <<EOF

${bold}Bookinfo is served by Meshgate${plain} (started in ${SECONDS}s)

    http://localhost:$http_port/productpage
    https://localhost:$https_port/productpage     (self-signed certificate: the browser warns)

Try
  1. Edit ${bold}$config/reviews.yaml${plain}
     change \`subset: v2\` to \`v3\`, save, reload the page: the stars turn red. v1 has none.
  2. Other rules: cp $sample/scenarios/reviews-jason-v2.yaml $config/reviews.yaml
     then sign in as jason (any name works, there is no password). All of them: $sample/README.md
  3. Break it: misspell a field, and see that the page stays while the log says what is wrong, with file and line.

Look inside
    curl -s localhost:$admin_port/config_dump
    curl -s 'localhost:$admin_port/explain?url=http://localhost:$http_port/productpage'
    curl -s localhost:$admin_port/metrics | grep istio_requests_total
    tail -f $work/access.log
    tail -f $work/meshgate.log

Ctrl-C stops it and removes $work
EOF
# Ends when either process does.
wait -n "${pids[@]}" || true
logs
fail 'it ended by itself; its last lines are above'
