"""A load generator that is not the bottleneck: raw sockets, packets made beforehand, nothing parsed.

It speaks just enough MQTT 3.1.1 to publish at QoS 1 within a window, and to count the PUBACKs.
"""

import json
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mqtt_presence.mqtt import packets

WINDOW = 200
_APART = 4000  # messages; as many as a batch of the bridge has


def connect(port: int, client_id: str, will: tuple[str, bytes] | None = None) -> socket.socket:
    """Open a connection to the broker on this machine and wait for its CONNACK."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    last_will = None if will is None else packets.Will(*will)
    hello = packets.Connect(packets.MQTT_311, client_id=client_id, will=last_will)
    sock.sendall(packets.connect_packet(hello))
    answer = b""
    while len(answer) < 4:
        answer += sock.recv(4 - len(answer))
    if answer != b"\x20\x02\x00\x00":
        raise RuntimeError(f"the broker refused the load generator: {answer!r}")
    return sock


@dataclass
class _Sender:
    sock: socket.socket
    packets: deque[bytes]
    unacknowledged: int = 0
    odd_bytes: int = 0

    @property
    def done(self) -> bool:
        return not self.packets


def publish_all(port: int, streams: list[list[tuple[str, bytes]]], rate: float | None = None) -> float:
    """Publish every stream on a connection of its own, in order; return how many seconds it took.

    Args:
        port: of the broker on this machine.
        streams: topics and payloads, a list for each connection.
        rate: messages a second over all connections; None: as fast as they go.

    """
    senders = []
    for number, stream in enumerate(streams):
        prepared = deque(packets.publish_packet(t, p, 1 + i % 65_000) for i, (t, p) in enumerate(stream))
        senders.append(_Sender(connect(port, f"load-{number}-{time.monotonic_ns()}"), prepared))
    selector = selectors.DefaultSelector()
    for sender in senders:
        selector.register(sender.sock, selectors.EVENT_READ, sender)
    began = time.perf_counter()
    sent = 0
    while True:
        for sender in [key.data for key in selector.get_map().values()]:
            allowance = WINDOW
            if rate is not None:
                allowance = int((time.perf_counter() - began) * rate) - sent
            sent += _send(sender, allowance)
            if sender.done and not sender.unacknowledged:
                selector.unregister(sender.sock)
                sender.sock.sendall(packets.DISCONNECT)
                sender.sock.close()
        if not selector.get_map():
            break
        for key, _ in selector.select(1.0 if rate is None else 0.0005):
            _count_acknowledgements(key.data)
    return time.perf_counter() - began


def _send(sender: _Sender, allowance: int) -> int:
    chunk = []
    while sender.packets and len(chunk) < min(allowance, WINDOW - sender.unacknowledged):
        chunk.append(sender.packets.popleft())
    if chunk:
        sender.sock.sendall(b"".join(chunk))
        sender.unacknowledged += len(chunk)
    return len(chunk)


def _count_acknowledgements(sender: _Sender) -> None:
    received = len(sender.sock.recv(65_536)) + sender.odd_bytes
    if received == sender.odd_bytes:
        raise RuntimeError("the broker closed the load generator's connection")
    sender.unacknowledged -= received // 4
    sender.odd_bytes = received % 4


def logins(users: int, clients: int, at: int) -> list[tuple[str, bytes]]:
    """Make the logins of every client of every user."""
    return [
        (
            f"presence/user{u}/client{c}/login",
            json.dumps({"connectionId": f"{u}-{c}-{at}", "time": at, "userAgent": "benchmark"}).encode(),
        )
        for c in range(clients)
        for u in range(users)
    ]


def reports(users: int, clients: int, at: int, count: int) -> Iterable[tuple[str, bytes]]:
    """Make heartbeats of users who are logged in, and idle and active reports of some others.

    However many users there are, the messages ask for the same: every eighth is a report that changes its
    connection. One user after the other goes idle, client by client, and becomes active again in the same
    order; a user's reports are far enough apart to be taken in different batches. Heartbeats go round all
    other users, of one client or the other: those of a batch are as many users', from 5,000 users on.
    """
    reporting = max(users // 8, min(500, users // 2))
    living = users - reporting
    cycle = 8 * 2 * clients
    for i in range(count):
        step = i % cycle // 8
        turn = i // cycle - step * (_APART // cycle)
        report = {}
        if i % 8 or turn < 0:
            user, client = reporting + i * 7919 % living, (i + i // living) % clients
        else:
            user, client = turn * 7919 % reporting, step % clients
            report = {"idle": step < clients}
        payload = {"connectionId": f"{user}-{client}-{at}", **report}
        yield f"presence/user{user}/client{client}/activity", json.dumps(payload).encode()


def split(messages: Iterable[tuple[str, bytes]], connections: int) -> list[list[tuple[str, bytes]]]:
    """Deal messages to connections, all of one client to the same."""
    streams: list[list[tuple[str, bytes]]] = [[] for _ in range(connections)]
    for topic, payload in messages:
        streams[hash(topic.rsplit("/", 1)[0]) % connections].append((topic, payload))
    return streams
