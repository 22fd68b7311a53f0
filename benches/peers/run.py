"""Side-by-side load on Meshgate, Envoy, HAProxy and nginx: CPU per request, as ratios against Envoy.

Every peer has one worker, keep-alive on both sides, the same answers, `x-forwarded-for` and a request id, no access log.
The order of the peers changes from round to round; the figure is the median of the per-round ratios, so that a noisy
machine moves all of them alike. Everything listens on loopback and every process is ended by handle.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
HOST = "bench.example.com"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, process, log):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended early:\n{open(log).read()[-3000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{process.args[0]} does not listen on {port}:\n{open(log).read()[-3000:]}")


def family(pid):
    """The process and its descendants: nginx and HAProxy work in children."""
    pids = [pid]
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = open(f"/proc/{entry}/stat").read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(stat[1]) == pid:
                pids += family(int(entry))
    return pids


def cpu_seconds(pid):
    total = 0
    for each in family(pid):
        try:
            stat = open(f"/proc/{each}/stat").read().rsplit(")", 1)[1].split()
        except OSError:
            continue
        total += int(stat[11]) + int(stat[12])
    return total / TICKS


def rss_mib(pid):
    total = 0
    for each in family(pid):
        try:
            total += int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{each}/status").read()).group(1))
        except (OSError, AttributeError):
            continue
    return total / 1024


class Peer:
    def __init__(self, name, ports, process, log):
        self.name, self.ports, self.process = name, ports, process
        wait_for(ports["plain"], process, log)
        wait_for(ports["tls"], process, log)


def write(path, text):
    with open(path, "w") as file:
        file.write(text)
    return path


def start(args, folder, name, **more):
    log = os.path.join(folder, f"{name}.log")
    return subprocess.Popen(args, stdout=open(log, "w"), stderr=subprocess.STDOUT, **more), log


def backend(folder):
    """nginx with a fixed 1 KiB answer from memory, and a file of 100 KiB."""
    port = free_port()
    write(os.path.join(folder, "big"), "x" * 102400)
    config = write(os.path.join(folder, "backend.conf"), f"""
daemon off; worker_processes 1; pid {folder}/backend.pid; error_log {folder}/backend.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h; open_file_cache max=10;
  client_body_temp_path {folder}/b1; proxy_temp_path {folder}/b2; fastcgi_temp_path {folder}/b3; uwsgi_temp_path {folder}/b4; scgi_temp_path {folder}/b5;
  server {{ listen 127.0.0.1:{port} backlog=4096; root {folder};
    location = /big {{ }} location / {{ return 200 "{'y' * 1024}"; }} }} }}""")
    process, log = start(["nginx", "-c", config, "-p", folder], folder, "backend")
    wait_for(port, process, log)
    return port, process


def meshgate(folder, upstream, binary):
    plain, tls = free_port(), free_port()
    cert, key = (open(os.path.join(folder, f)).read() for f in ("cert.pem", "key.pem"))
    indent = lambda text: "".join(f"    {line}\n" for line in text.splitlines())
    config = write(os.path.join(folder, "meshgate.yaml"), f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: bench, namespace: istio-system }}
spec:
  selector: {{ istio: ingressgateway }}
  servers:
  - {{ port: {{ number: {plain}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ["*"] }}
  - {{ port: {{ number: {tls}, name: https, protocol: HTTPS }}, bind: 127.0.0.1, hosts: ["*"], tls: {{ mode: SIMPLE, credentialName: bench }} }}
---
apiVersion: v1
kind: Secret
metadata: {{ name: bench, namespace: istio-system }}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{indent(cert)}
  tls.key: |
{indent(key)}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: backend, namespace: istio-system }}
spec:
  hosts: [backend.local]
  ports: [ {{ number: 80, name: http, protocol: HTTP }} ]
  resolution: STATIC
  endpoints: [ {{ address: 127.0.0.1, ports: {{ http: {upstream} }} }} ]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: bench, namespace: istio-system }}
spec:
  hosts: ["*"]
  gateways: [bench]
  http:
  - match: [ {{ uri: {{ prefix: /api }} }}, {{ uri: {{ exact: /healthz }} }} ]
    route: [ {{ destination: {{ host: backend.local, port: {{ number: 80 }} }} }} ]
  - route: [ {{ destination: {{ host: backend.local, port: {{ number: 80 }} }} }} ]
""")
    process, log = start([binary, "run", "-f", config, "--workers", "1", "--admin", "127.0.0.1:0", "--status", "127.0.0.1:0"], folder, "meshgate")
    return Peer("meshgate", {"plain": plain, "tls": tls}, process, log)


def envoy(folder, upstream):
    plain, tls = free_port(), free_port()
    manager = """
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          use_remote_address: true
          normalize_path: true
          http_filters: [ { name: envoy.filters.http.router, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } } ]
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - { match: { prefix: /api }, route: { cluster: backend, timeout: 0s } }
              - { match: { path: /healthz }, route: { cluster: backend, timeout: 0s } }
              - { match: { prefix: / }, route: { cluster: backend, timeout: 0s } }
"""
    config = write(os.path.join(folder, "envoy.yaml"), f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {plain} }} }}
    filter_chains:
    - filters:{manager}
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {tls} }} }}
    filter_chains:
    - transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [ {{ certificate_chain: {{ filename: {folder}/cert.pem }}, private_key: {{ filename: {folder}/key.pem }} }} ]
      filters:{manager}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 10s
    lb_policy: LEAST_REQUEST
    circuit_breakers: {{ thresholds: [ {{ max_connections: 100000, max_pending_requests: 100000, max_requests: 100000 }} ] }}
    load_assignment: {{ cluster_name: backend, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }} }} ] }} ] }}
""")
    process, log = start(["envoy", "-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"], folder, "envoy")
    return Peer("envoy", {"plain": plain, "tls": tls}, process, log)


def haproxy(folder, upstream):
    plain, tls = free_port(), free_port()
    with open(os.path.join(folder, "both.pem"), "w") as both:
        for part in ("cert.pem", "key.pem"):
            both.write(open(os.path.join(folder, part)).read())
    config = write(os.path.join(folder, "haproxy.cfg"), f"""
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  option forwardfor
  http-reuse always
frontend bench
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {folder}/both.pem alpn h2,http/1.1
  unique-id-format %[uuid()]
  unique-id-header x-request-id
  acl api path_beg /api
  acl health path /healthz
  use_backend one if api
  use_backend one if health
  default_backend one
backend one
  server s 127.0.0.1:{upstream}
""")
    process, log = start(["haproxy", "-f", config, "-db"], folder, "haproxy")
    return Peer("haproxy", {"plain": plain, "tls": tls}, process, log)


def nginx(folder, upstream):
    plain, tls = free_port(), free_port()
    config = write(os.path.join(folder, "nginx.conf"), f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.err;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 1h;
  client_body_temp_path {folder}/n1; proxy_temp_path {folder}/n2; fastcgi_temp_path {folder}/n3; uwsgi_temp_path {folder}/n4; scgi_temp_path {folder}/n5;
  upstream one {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 100000000; }}
  server {{ listen 127.0.0.1:{plain} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;
    ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_session_cache shared:s:10m;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Request-ID $request_id;
    location /api {{ proxy_pass http://one; }} location = /healthz {{ proxy_pass http://one; }} location / {{ proxy_pass http://one; }} }} }}""")
    process, log = start(["nginx", "-c", config, "-p", folder], folder, "nginx")
    return Peer("nginx", {"plain": plain, "tls": tls}, process, log)


def wrk(url, seconds, close=False):
    args = ["wrk", "-t1", "-c32", f"-d{seconds}s", "-H", f"Host: {HOST}"]
    if close:
        args += ["-H", "Connection: close"]
    out = subprocess.run(args + [url], capture_output=True, text=True, timeout=120).stdout
    if "Non-2xx" in out or "Socket errors" in out and not close:
        sys.exit(f"errors under load of {url}:\n{out}")
    return int(re.search(r"(\d+) requests in", out).group(1))


def h2load(url, seconds):
    out = subprocess.run(["h2load", "-t1", "-c16", "-m8", "-D", str(seconds), "--header", f":authority:{HOST}", url], capture_output=True, text=True, timeout=120).stdout
    if not re.search(r", 0 failed, 0 errored", out):
        sys.exit(f"errors under load of {url}:\n{out}")
    return int(re.search(r"(\d+) succeeded", out).group(1))


CASES = {
    "h1": lambda peer, seconds: wrk(f"http://127.0.0.1:{peer.ports['plain']}/api/v1", seconds),
    "h1-tls": lambda peer, seconds: wrk(f"https://127.0.0.1:{peer.ports['tls']}/api/v1", seconds),
    "h2-tls": lambda peer, seconds: h2load(f"https://127.0.0.1:{peer.ports['tls']}/api/v1", seconds),
    "h1-100k": lambda peer, seconds: wrk(f"http://127.0.0.1:{peer.ports['plain']}/big", seconds),
    "h1-tls-100k": lambda peer, seconds: wrk(f"https://127.0.0.1:{peer.ports['tls']}/big", seconds),
    "handshake": lambda peer, seconds: wrk(f"https://127.0.0.1:{peer.ports['tls']}/api/v1", seconds, close=True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshgate", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="load per measurement")
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--peers", default="meshgate,envoy,haproxy,nginx")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="meshgate-peers-")
    os.chmod(folder, 0o755)  # nginx workers drop root
    processes = []
    try:
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem",
                        "-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST},IP:127.0.0.1"], check=True, capture_output=True)
        upstream, process = backend(folder)
        processes.append(process)
        makers = {"meshgate": lambda: meshgate(folder, upstream, options.meshgate), "envoy": lambda: envoy(folder, upstream), "haproxy": lambda: haproxy(folder, upstream), "nginx": lambda: nginx(folder, upstream)}
        peers = []
        for name in options.peers.split(","):
            peers.append(makers[name]())
            processes.append(peers[-1].process)
        run(peers, options)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def run(peers, options):
    print(f"{'case':<12} {'peer':<9} {'us/request':>10} {'ratio to envoy':>15} {'requests/s':>11} {'RSS MiB':>8}")
    for case in options.cases.split(","):
        cost = {peer.name: [] for peer in peers}
        rate = {peer.name: [] for peer in peers}
        for peer in peers:
            CASES[case](peer, 1)
        for round in range(options.rounds):
            turn = round % len(peers)
            for peer in peers[turn:] + peers[:turn]:
                before, started = cpu_seconds(peer.process.pid), time.monotonic()
                requests = CASES[case](peer, options.seconds)
                cost[peer.name].append((cpu_seconds(peer.process.pid) - before) / requests * 1e6)
                rate[peer.name].append(requests / (time.monotonic() - started))
        for peer in peers:
            ratio = "-"
            if "envoy" in cost:
                ratio = f"{statistics.median(a / b for a, b in zip(cost[peer.name], cost['envoy'])):.2f}"
            print(f"{case:<12} {peer.name:<9} {statistics.median(cost[peer.name]):>10.1f} {ratio:>15} {statistics.median(rate[peer.name]):>11.0f} {rss_mib(peer.process.pid):>8.1f}", flush=True)


if __name__ == "__main__":
    main()
