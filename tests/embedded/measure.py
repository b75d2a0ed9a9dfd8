"""Measure the embedded broker on this machine: connections, memory, messages. Not a test.

Run: python -m tests.embedded.measure. The broker runs in a process of its own; the clients are bare sockets in this one,
so the figures are the broker's, on a machine where both share the cores.
"""

import argparse
import contextlib
import multiprocessing
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.mqtt.framing import Kind, frames
from mqtt_presence.mqtt.packets import DISCONNECT, puback_packets, publish_packet, split_publish
from tests.embedded.brokers import SECRET
from tests.embedded.raw_client import RawClient, connect_packet


def serve(pipe) -> None:
    """Run a broker until the parent sends a message."""
    with EmbeddedBroker(EmbeddedConfig(port=0, ws_port=0, bridge_password=SECRET)) as broker:
        pipe.send((broker.port, broker.ws_port))
        pipe.recv()


def memory_kib(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1])
    return 0


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def connections(port: int, pid: int, count: int) -> None:
    """Connect clients with a will and a subscription of their own, one after another."""
    before, began, cpu = memory_kib(pid), time.perf_counter(), cpu_s(pid)
    clients = []
    for n in range(count):
        raw_client = RawClient(port)
        raw_client.connect("alice", f"c{n}", will=(f"presence/alice/c{n}/will", ""))
        clients.append(raw_client)
    took, used = time.perf_counter() - began, cpu_s(pid) - cpu
    print(f"{count} connections: {count / took:.0f}/s, {used / count * 1e6:.0f} us CPU each")
    for n, raw_client in enumerate(clients):
        raw_client.subscribe("status/+" if n < 10 else f"reply/alice/c{n}/+")
    print(f"  idle with one subscription: {(memory_kib(pid) - before) / count:.1f} KiB each")
    silent = RawClient(port)
    silent.connect("alice", "silent", keep_alive=1)
    cpu, began = cpu_s(pid), time.perf_counter()
    assert silent.closed(), "a client without a packet for 1.5 times its keep alive is disconnected"
    idle_s = time.perf_counter() - began
    print(f"  idle CPU: {(cpu_s(pid) - cpu) / idle_s * 100:.1f} % in {idle_s:.1f} s")
    bridge = RawClient(port)
    bridge.connect("bridge", "b", password=SECRET, clean=True)
    bridge.subscribe("presence/+/+/+")
    began = time.perf_counter()
    for raw_client in clients:
        raw_client.kill()
    for _ in clients:
        bridge.message()
    print(f"  {count} wills delivered in {time.perf_counter() - began:.2f} s")
    bridge.disconnect()


def websockets(port: int, pid: int, count: int) -> None:
    from websockets.sync.client import connect

    before, began = memory_kib(pid), time.perf_counter()
    pages = []
    for n in range(count):
        page = connect(f"ws://127.0.0.1:{port}/", subprotocols=["mqtt"], compression=None)
        page.send(connect_packet("alice", f"w{n}"))
        page.recv()
        pages.append(page)
    took = time.perf_counter() - began
    each = (memory_kib(pid) - before) / count
    print(f"{count} WebSocket connections: {count / took:.0f}/s (with a slow client), {each:.1f} KiB each")
    for page in pages:
        page.close()


def throughput(port: int, pid: int, count: int, *, qos: int, publishers: int, watchers: int) -> None:
    """Send from raw publishers through the broker to a bridge that acknowledges in batches."""
    others = []
    for n in range(watchers):
        other = RawClient(port)
        other.connect("bob", f"watcher{n}")
        other.subscribe(f"status/u{n}")
        others.append(other)
    bridge = RawClient(port)
    bridge.connect("bridge", "b", password=SECRET, clean=True)
    bridge.subscribe("presence/+/+/+", qos=qos)
    child = multiprocessing.Process(
        daemon=True, target=publish, args=(port, count // publishers, qos, publishers)
    )
    cpu, began = cpu_s(pid), time.perf_counter()
    child.start()
    got, first = 0, None
    bridge.sock.settimeout(10)
    buffer = b""
    while got < count // publishers * publishers:
        buffer += bridge.sock.recv(1 << 18)
        first = first or time.perf_counter()
        acks, done = [], 0
        for at, body, after in frames(buffer):
            if after > len(buffer):
                break
            done = after
            if buffer[at] >> 4 == Kind.PUBLISH:
                got += 1
                if qos:
                    acks.append(split_publish(buffer[at], buffer, body, after, mqtt5=False)[1])
        buffer = buffer[done:]
        bridge.send(puback_packets(acks))
    took = time.perf_counter() - (first or began)
    used = (cpu_s(pid) - cpu) / got * 1e6
    extra = f", beside {watchers} other subscriptions" if watchers else ""
    print(
        f"QoS {qos}, {publishers} publishers{extra}: {got / took:.0f} messages/s, broker {used:.0f} us CPU each"
    )
    child.join()
    bridge.disconnect()
    for other in others:
        other.disconnect()


def publish(port: int, each: int, qos: int, publishers: int) -> None:
    """Send with a window of 100 unacknowledged messages on each connection."""
    socks = []
    for n in range(publishers):
        raw_client = RawClient(port)
        raw_client.connect("alice", f"p{n}")
        socks.append((raw_client.sock, f"presence/alice/p{n}/activity", [0, 0]))
    payload = b'{"connectionId":"0123456789abcdef","idle":false,"lastActivity":1790000000000}'
    left = True
    while left:
        left = False
        for sock, topic, state in socks:
            if qos and state[0] - state[1] // 4 >= 50:
                state[1] += len(sock.recv(1 << 16))  # a PUBACK is 4 bytes
            sent, acked = state[0], state[1] // 4
            room = min(100 - (sent - acked) if qos else 100, each - sent)
            ids = range(sent, sent + room)
            packet_ids = (n % 65000 + 1 if qos else 0 for n in ids)
            sock.sendall(b"".join(publish_packet(topic, payload, n, qos=qos) for n in packet_ids))
            state[0] = sent + room
            left = left or sent + room < each
    for sock, _, state in socks:
        while qos and state[1] // 4 < state[0]:
            state[1] += len(sock.recv(1 << 16))
        sock.sendall(DISCONNECT)
        sock.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def broker() -> Iterator[tuple[int, int, int]]:
    """Run a fresh broker process; yield its TCP port, WebSocket port and process id."""
    embedded_server, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    port, ws_port = embedded_server.recv()
    try:
        yield port, ws_port, process.pid
    finally:
        print(f"  broker process: {memory_kib(process.pid) / 1024:.0f} MiB at the end")
        embedded_server.send("stop")
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=3000)
    parser.add_argument("--messages", type=int, default=60_000)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 3 * options.connections)), hard))
    with broker() as (port, _, pid):
        print(f"broker process: {memory_kib(pid) / 1024:.0f} MiB at start")
        connections(port, pid, options.connections)
    with broker() as (_, ws_port, pid):
        websockets(ws_port, pid, 300)
    for qos, publishers, watchers in ((1, 1, 0), (1, 10, 0), (1, 10, 1000), (0, 10, 0)):
        with broker() as (port, _, pid):
            throughput(port, pid, options.messages, qos=qos, publishers=publishers, watchers=watchers)


if __name__ == "__main__":
    main()
