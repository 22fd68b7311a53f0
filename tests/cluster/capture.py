#!/usr/bin/env python3
"""capture.py SECONDS NETWORK TEXT...: fails if one of the texts crosses between two addresses of the network.

Reads every packet that passes the interfaces of this network namespace for so many seconds, and looks into the payloads of TCP
between two different addresses of NETWORK. Addresses that end in .1 are the node's own. Prints how many packets and bytes it looked
into: a proof that looked at nothing is none, so fewer than ten packets fail too.
"""
import ipaddress, socket, struct, sys, time

seconds, network, texts = float(sys.argv[1]), ipaddress.ip_network(sys.argv[2]), [text.encode() for text in sys.argv[3:]]
capture = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003))
capture.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 20)
capture.settimeout(0.2)
end, packets, size, found, pairs = time.monotonic() + seconds, 0, 0, {}, set()
print("capturing", flush=True)
while time.monotonic() < end:
    try:
        packet, origin = capture.recvfrom(65535)
    except TimeoutError:
        continue
    if origin[1] != 0x0800 or len(packet) < 20 or packet[9] != 6:
        continue
    source, target = (ipaddress.ip_address(packet[at : at + 4]) for at in (12, 16))
    inside = all(address in network and not str(address).endswith(".1") for address in (source, target))
    if not inside or source == target:
        continue
    header = (packet[0] & 15) * 4
    length = struct.unpack_from(">H", packet, 2)[0]
    payload = packet[header + (packet[header + 12] >> 4) * 4 : length]
    if not payload:
        continue
    packets, size = packets + 1, size + len(payload)
    pairs.add((str(source), str(target)))
    for text in texts:
        if text in payload:
            found.setdefault(text.decode(), f"{source} to {target}")
print(f"{packets} packets with {size} bytes between {len(pairs)} pairs of pods")
for text, between in found.items():
    print(f"readable: {text!r}, {between}", file=sys.stderr)
sys.exit(1 if found or packets < 10 else 0)
