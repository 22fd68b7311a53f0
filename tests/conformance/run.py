"""Third-party conformance suites against the real gateway:

  h2spec            HTTP/2, on the clear-text and on the TLS listener
  kosoku            Autobahn's WebSocket cases through the gateway; nothing may fail that passes without it
  gRPC interop      unary, streaming both ways, cancellation, deadlines, status and metadata, clear text and TLS

    python3 tests/conformance/run.py --tools DIR --python DIR/python [h2spec|websocket|grpc ...]

Everything listens on loopback, on free ports, and is ended by handle.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

# What h2spec may find, with the reason. Anything else fails the run.
H2SPEC_EXPECTED = {
    "clear": {"3.5/2": "the clear listener speaks HTTP/1.1, too: an invalid preface is a malformed HTTP/1 request and gets its 400"},
    "tls": {},
}
GRPC_CASES = [
    "empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
    "cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
    "unimplemented_method", "unimplemented_service",
]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Rig:
    def __init__(self, options):
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="meshgate-conformance-")
        self.processes = []

    def start(self, name, args, port):
        log = os.path.join(self.folder, f"{name}.log")
        process = subprocess.Popen(args, stdout=open(log, "w"), stderr=subprocess.STDOUT)
        self.processes.append(process)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return process
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} does not serve:\n{open(log).read()[-4000:]}")
                time.sleep(0.05)

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def gateway(self, plain, websocket, grpc):
        self.clear, self.tls = free_port(), free_port()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", f"{self.folder}/key.pem", "-out", f"{self.folder}/cert.pem"],
                       check=True, capture_output=True)
        config = os.path.join(self.folder, "config.yaml")
        with open(config, "w") as file:
            file.write(CONFIG.format(clear=self.clear, tls=self.tls, plain=plain, websocket=websocket, grpc=grpc, folder=self.folder))
        self.start("meshgate", [self.options.meshgate, "run", "-f", config, "--admin", "127.0.0.1:0", "--status", "127.0.0.1:0"], self.tls)


CONFIG = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{ name: g, namespace: default }}
spec:
  selector: {{ istio: ingressgateway }}
  servers:
  - {{ port: {{ number: {clear}, name: http, protocol: HTTP }}, bind: 127.0.0.1, hosts: ["*"] }}
  - port: {{ number: {tls}, name: https, protocol: HTTPS }}
    bind: 127.0.0.1
    hosts: ["*"]
    tls: {{ mode: SIMPLE, serverCertificate: {folder}/cert.pem, privateKey: {folder}/key.pem }}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: v, namespace: default }}
spec:
  hosts: ["*"]
  gateways: [g]
  http:
  - match: [ {{ uri: {{ prefix: /h2spec }} }} ]
    route: [ {{ destination: {{ host: plain.local, port: {{ number: 80 }} }} }} ]
  - match: [ {{ uri: {{ prefix: /grpc.testing. }} }} ]
    route: [ {{ destination: {{ host: grpc.local, port: {{ number: 80 }} }} }} ]
  - route: [ {{ destination: {{ host: websocket.local, port: {{ number: 80 }} }} }} ]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: plain, namespace: default }}
spec:
  hosts: [plain.local]
  ports: [ {{ number: 80, name: http, protocol: HTTP }} ]
  resolution: STATIC
  endpoints: [ {{ address: 127.0.0.1, ports: {{ http: {plain} }} }} ]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: websocket, namespace: default }}
spec:
  hosts: [websocket.local]
  ports: [ {{ number: 80, name: http, protocol: HTTP }} ]
  resolution: STATIC
  endpoints: [ {{ address: 127.0.0.1, ports: {{ http: {websocket} }} }} ]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: grpc, namespace: default }}
spec:
  hosts: [grpc.local]
  ports: [ {{ number: 80, name: grpc, protocol: GRPC }} ]
  resolution: STATIC
  endpoints: [ {{ address: 127.0.0.1, ports: {{ grpc: {grpc} }} }} ]
"""

# Reads the whole request before it answers, so that what is wrong with a body is found before the stream is over.
PLAIN = """
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        if self.headers.get("transfer-encoding"):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                self.rfile.read(size + 2)
            self.rfile.readline()
        else:
            self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-length", "21")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(b"a body of a few bytes")
    do_GET = do_POST = do_HEAD = do_PUT = answer
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""

ECHO = """
import asyncio, sys, websockets
async def echo(connection):
    async for message in connection:
        await connection.send(message)
async def main():
    async with websockets.serve(echo, "127.0.0.1", int(sys.argv[1]), max_size=None, compression=None):
        await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""


def h2spec(rig):
    good = True
    for listener, port, flags in (("clear", rig.clear, []), ("tls", rig.tls, ["-t", "-k"])):
        report = os.path.join(rig.folder, f"h2spec-{listener}.xml")
        subprocess.run([os.path.join(rig.options.tools, "h2spec"), "-h", "127.0.0.1", "-p", str(port), "-P", "/h2spec", "-o", "5", "-j", report, *flags],
                       stdout=subprocess.DEVNULL, timeout=300)
        import xml.etree.ElementTree as tree
        total, failed = 0, []
        for suite in tree.parse(report).getroot().iter("testsuite"):
            for number, case in enumerate(suite.iter("testcase"), 1):
                total += 1
                if case.find("failure") is not None or case.find("error") is not None:
                    failed.append((f"{case.get('package').removeprefix('http2/')}/{number}", case.get("classname")))
        unexpected = [f for f in failed if f[0] not in H2SPEC_EXPECTED[listener]]
        print(f"h2spec {listener}: {total - len(failed)} of {total} pass" + "".join(f"\n  {i} {name}: {H2SPEC_EXPECTED[listener].get(i, 'UNEXPECTED')}" for i, name in failed))
        good &= not unexpected and total >= 140
    return good


def kosoku(rig, address, name):
    out = os.path.join(rig.folder, name)
    subprocess.run([os.path.join(rig.options.python, "kosoku"), "-m", "fuzzingclient", "-p", "2", "-x", "12.*", "-x", "13.*", "-o", out, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=600)
    results = {}
    for root, _, files in os.walk(out):
        if "index.json" in files:
            for agent in json.load(open(os.path.join(root, "index.json"))).values():
                results.update({case: result.get("behavior") for case, result in agent.items()})
    return results


def websocket(rig):
    direct = kosoku(rig, f"127.0.0.1:{rig.websocket}", "direct")
    through = kosoku(rig, f"127.0.0.1:{rig.clear}", "through")
    passes = lambda results: {case for case, behaviour in results.items() if behaviour in ("OK", "NON-STRICT", "INFORMATIONAL")}
    lost = sorted(passes(direct) - passes(through))
    print(f"websocket: {len(passes(through))} of {len(through)} cases pass through the gateway, {len(passes(direct))} without it" + "".join(f"\n  {case}: {through.get(case)}" for case in lost))
    return bool(direct) and not lost


def grpc(rig):
    failed = []
    client = os.path.join(rig.options.tools, "grpc-interop-client")
    for name, flags in (("clear", [f"--server_port={rig.clear}", "--use_tls=false"]),
                        ("tls", [f"--server_port={rig.tls}", "--use_tls=true", f"--ca_file={rig.folder}/cert.pem", "--use_test_ca=true", "--server_host_override=localhost"])):
        for case in GRPC_CASES:
            run = subprocess.run([client, "--server_host=127.0.0.1", f"--test_case={case}", *flags], capture_output=True, text=True, timeout=60)
            if run.returncode != 0:
                failed.append(f"{name} {case}: {run.stderr.strip()[-300:]}")
    print(f"grpc: {2 * len(GRPC_CASES) - len(failed)} of {2 * len(GRPC_CASES)} interop cases pass (clear text and TLS)" + "".join(f"\n  {line}" for line in failed))
    return not failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=[])
    parser.add_argument("--meshgate", default="target/debug/meshgate")
    parser.add_argument("--tools", required=True, help="folder of h2spec, grpc-interop-client, grpc-interop-server")
    parser.add_argument("--python", required=True, help="bin folder of a Python environment with kosoku and websockets")
    options = parser.parse_args()
    suites = {"h2spec": h2spec, "websocket": websocket, "grpc": grpc}
    rig = Rig(options)
    try:
        plain, rig.websocket, grpc_port = free_port(), free_port(), free_port()
        rig.start("plain", [sys.executable, "-c", PLAIN, str(plain)], plain)
        rig.start("echo", [os.path.join(options.python, "python"), "-c", ECHO, str(rig.websocket)], rig.websocket)
        rig.start("grpc", [os.path.join(options.tools, "grpc-interop-server"), f"--port={grpc_port}"], grpc_port)
        rig.gateway(plain, rig.websocket, grpc_port)
        results = [suites[name](rig) for name in options.suites or suites]
    finally:
        rig.stop()
    sys.exit(0 if all(results) else 1)


main()
