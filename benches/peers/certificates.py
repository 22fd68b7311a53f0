"""Thousands of certificates in Meshgate, Envoy and HAProxy: how long until the last name is served, what that weighs, what a full
handshake costs, and what an idle TLS connection weighs.

Every peer has one worker and the same certificates (P-256, a key of its own each), and answers 1 KiB of its backend. Handshakes are
TLS 1.3 without resumption, each for another name, then one request. Everything listens on loopback; every process is ended by handle.
"""

import argparse
import os
import resource
import shutil
import socket
import ssl
import sys
import tempfile
import time

import run
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from datetime import datetime, timedelta, timezone

# Longest that a peer may take until it serves.
DEADLINE = 300
SERVERS_OF_A_GATEWAY = 100


def name(number):
    return f"host-{number:05}.example.com"


def certificates(folder, count):
    """Writes NUMBER.crt, NUMBER.key, and NUMBER.pem with both."""
    os.makedirs(os.path.join(folder, "pem"))
    now = datetime.now(timezone.utc)
    for number in range(count):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name(number))])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name(number))]), False)
            .sign(key, hashes.SHA256())
        )
        crt = certificate.public_bytes(serialization.Encoding.PEM).decode()
        plain = serialization.NoEncryption()
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain).decode()
        run.write(os.path.join(folder, f"{number}.crt"), crt)
        run.write(os.path.join(folder, f"{number}.key"), private)
        run.write(os.path.join(folder, "pem", f"{number}.pem"), crt + private)


def meshgate(folder, upstream, count, binary):
    port = run.free_port()
    indent = lambda file: "".join(f"    {line}\n" for line in open(os.path.join(folder, file)).read().splitlines())
    objects = [
        f"""apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: backend, namespace: istio-system }}
spec:
  hosts: [backend.local]
  ports: [ {{ number: 80, name: http, protocol: HTTP }} ]
  resolution: STATIC
  endpoints: [ {{ address: 127.0.0.1, ports: {{ http: {upstream} }} }} ]
""",
    ]
    gateways = []
    for first in range(0, count, SERVERS_OF_A_GATEWAY):
        gateways.append(f"gw-{first}")
        servers = "".join(
            f"  - {{ port: {{ number: {port}, name: https-{number}, protocol: HTTPS }}, bind: 127.0.0.1, hosts: [{name(number)}], "
            f"tls: {{ mode: SIMPLE, credentialName: c-{number} }} }}\n"
            for number in range(first, min(first + SERVERS_OF_A_GATEWAY, count))
        )
        objects.append(f"""apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: gw-{first}, namespace: istio-system }}
spec:
  selector: {{ istio: ingressgateway }}
  servers:
{servers}""")
    objects.append(f"""apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: bench, namespace: istio-system }}
spec:
  hosts: ["*"]
  gateways: [{", ".join(gateways)}]
  http: [ {{ route: [ {{ destination: {{ host: backend.local, port: {{ number: 80 }} }} }} ] }} ]
""")
    for number in range(count):
        objects.append(f"""apiVersion: v1
kind: Secret
metadata: {{ name: c-{number}, namespace: istio-system }}
type: kubernetes.io/tls
stringData:
  tls.crt: |
{indent(f"{number}.crt")}  tls.key: |
{indent(f"{number}.key")}""")
    config = run.write(os.path.join(folder, "meshgate.yaml"), "---\n".join(objects))
    arguments = ["run", "-f", config, "--workers", "1", "--admin", "127.0.0.1:0", "--status", "127.0.0.1:0"]
    return port, run.start([binary, *arguments, "--access-log", "off"], folder, "meshgate")


def envoy(folder, upstream, count, _):
    port = run.free_port()
    chains = "".join(
        f"""
    - filter_chain_match: {{ server_names: [{name(number)}] }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_certificates: [ {{ certificate_chain: {{ filename: {folder}/{number}.crt }}, private_key: {{ filename: {folder}/{number}.key }} }} ]
      filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: bench
          use_remote_address: true
          http_filters: [ {{ name: envoy.filters.http.router, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }} }} ]
          route_config: {{ virtual_hosts: [ {{ name: all, domains: ["*"], routes: [ {{ match: {{ prefix: / }}, route: {{ cluster: backend, timeout: 0s }} }} ] }} ] }}"""
        for number in range(count)
    )
    config = run.write(os.path.join(folder, "envoy.yaml"), f"""
static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    listener_filters:
    - {{ name: tls, typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector }} }}
    filter_chains:{chains}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 10s
    load_assignment: {{ cluster_name: backend, endpoints: [ {{ lb_endpoints: [ {{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {upstream} }} }} }} }} ] }} ] }}
""")
    arguments = ["-c", config, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
    return port, run.start(["envoy", *arguments], folder, "envoy")


def haproxy(folder, upstream, count, _):
    port = run.free_port()
    config = run.write(os.path.join(folder, "haproxy.cfg"), f"""
global
  nbthread 1
  maxconn 9950
  tune.ssl.default-dh-param 2048
defaults
  mode http
  timeout connect 10s
  timeout client 1h
  timeout server 1h
  option forwardfor
  http-reuse always
frontend bench
  bind 127.0.0.1:{port} ssl crt {folder}/pem/ alpn h2,http/1.1
  default_backend one
backend one
  server s 127.0.0.1:{upstream}
""")
    return port, run.start(["haproxy", "-f", config, "-db"], folder, "haproxy")


PEERS = {"meshgate": meshgate, "envoy": envoy, "haproxy": haproxy}


def connect(port, number):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    stream = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 10), server_hostname=name(number))
    stream.sendall(f"GET / HTTP/1.1\r\nHost: {name(number)}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer or len(answer.split(b"\r\n\r\n", 1)[1]) < 1024:
        piece = stream.recv(4096)
        if not piece:
            raise OSError("closed")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 200"):
        raise OSError(answer[:40])
    return stream


def served(port, number, process, log):
    """Waits until the name is served."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"{process.args[0]} ended early:\n{open(log).read()[-3000:]}")
        try:
            return connect(port, number).close()
        except OSError:
            time.sleep(0.02)
    sys.exit(f"{process.args[0]} does not serve {name(number)}:\n{open(log).read()[-3000:]}")


def measure(folder, upstream, peer, options):
    port, (process, log) = PEERS[peer](folder, upstream, options.count, options.meshgate)
    started = time.monotonic()
    idle = []
    try:
        served(port, options.count - 1, process, log)
        loaded = time.monotonic() - started
        time.sleep(8)
        weight = run.rss_mib(process.pid)
        for number in range(200):
            connect(port, number % options.count).close()
        cpu = run.cpu_seconds(process.pid)
        for number in range(options.handshakes):
            connect(port, number * 7 % options.count).close()
        handshake = (run.cpu_seconds(process.pid) - cpu) / options.handshakes
        time.sleep(2)
        before = run.rss_mib(process.pid)
        for number in range(options.idle):
            idle.append(connect(port, number % options.count))
        time.sleep(8)
        each = (run.rss_mib(process.pid) - before) * 1024 / max(options.idle, 1)
    finally:
        for stream in idle:
            stream.close()
        process.kill()
        process.wait()
    return {"load s": loaded, "RSS MiB": weight, "handshake us": handshake * 1e6, "idle KiB": each}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meshgate", required=True)
    parser.add_argument("--count", type=int, default=10_000, help="certificates")
    parser.add_argument("--handshakes", type=int, default=4000)
    parser.add_argument("--idle", type=int, default=9900, help="connections that stay")
    parser.add_argument("--peers", default=",".join(PEERS))
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    folder = tempfile.mkdtemp(prefix="meshgate-certificates-")
    nginx = None
    try:
        upstream, nginx = run.backend(folder)
        certificates(folder, options.count)
        print(f"{'':10} {'load s':>10} {'RSS MiB':>10} {'handshake us':>14} {'idle KiB':>10}")
        for peer in options.peers.split(","):
            found = measure(folder, upstream, peer, options)
            print(f"{peer:10} {found['load s']:10.2f} {found['RSS MiB']:10.1f} {found['handshake us']:14.0f} {found['idle KiB']:10.1f}", flush=True)
    finally:
        if nginx is not None:
            nginx.kill()
            nginx.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
