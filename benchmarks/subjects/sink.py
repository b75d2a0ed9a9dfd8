"""How fast messages can come at all: a raw socket that acknowledges in bulk. It shows what the load does."""

import signal
import socket
import sys
import threading

from benchmarks.load import connect
from mqtt_presence.mqtt.framing import frames
from mqtt_presence.mqtt.packets import puback_packets, publish_packet, split_publish, subscribe_packet

port = int(sys.argv[1])
sock = connect(port, "sink")
sock.sendall(subscribe_packet([("presence/+/+/+", 1)], 1))


def drain(sock: socket.socket) -> None:
    """Acknowledge what comes."""
    rest = b""
    while data := sock.recv(1 << 20):
        data = rest + data
        done, acks, sentinels = 0, [], []
        for at, body, after in frames(data):
            if after > len(data):
                break
            done = after
            if data[at] & 0xF0 == 0x30:
                topic, packet_id, _ = split_publish(data[at], data, body, after, mqtt5=False)
                acks.append(packet_id)
                if topic.startswith(b"presence/sentinel"):
                    sentinels.append(topic.decode().split("/")[1])
        rest = data[done:]
        sock.sendall(puback_packets(acks))
        for number, user in enumerate(sentinels):
            sock.sendall(publish_packet(f"status/{user}", b"{}", 1 + number, retain=True))


threading.Thread(target=drain, args=(sock,), daemon=True).start()
signal.sigwait([signal.SIGTERM])
