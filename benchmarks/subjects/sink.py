"""How fast messages can come at all: a raw socket that acknowledges in bulk. It shows what the load does."""

import signal
import socket
import struct
import sys
import threading

from benchmarks.load import connect
from mqtt_presence.simulation import packets

port = int(sys.argv[1])
sock = connect(port, "sink")
topic = b"presence/+/+/+"
sock.sendall(b"\x82" + bytes([5 + len(topic)]) + b"\0\1" + struct.pack("!H", len(topic)) + topic + b"\1")


def drain(sock: socket.socket) -> None:
    """Acknowledge what comes."""
    rest = b""
    while data := sock.recv(1 << 20):
        data = rest + data
        at, acks, sentinels = 0, [], []
        while at + 2 <= len(data):
            length, body = data[at + 1], at + 2
            if length > 127:
                if body >= len(data):
                    break
                length, body = length & 127 | data[body] << 7, body + 1
            if body + length > len(data):
                break
            if data[at] & 0xF0 == 0x30:
                size = data[body] << 8 | data[body + 1]
                acks.append(b"\x40\x02" + data[body + 2 + size : body + 4 + size])
                if data.startswith(b"presence/sentinel", body + 2):
                    sentinels.append(data[body + 2 : body + 2 + size].decode().split("/")[1])
            at = body + length
        rest = data[at:]
        sock.sendall(b"".join(acks))
        for number, user in enumerate(sentinels):
            packet = bytearray(packets.publish(f"status/{user}", b"{}", 1 + number))
            packet[0] |= 1  # retained
            sock.sendall(packet)


threading.Thread(target=drain, args=(sock,), daemon=True).start()
signal.sigwait([signal.SIGTERM])
