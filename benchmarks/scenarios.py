"""What is measured: five loads, each returning figures by name."""

import json
import resource
import socket
import sqlite3
import statistics
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from benchmarks import load
from benchmarks.population import populate
from benchmarks.rig import BRIDGE, Rig, StatusCounter
from mqtt_presence.mqtt import packets
from mqtt_presence.store import Store

Figures = dict[str, float]

STEADY_MESSAGES = 60_000
USUAL_SHARE = 10  # the usual script gets a tenth of the messages: it would take minutes
HERD_USERS = 10_000
DIE_OFF = 2_000
LATENCY_SAMPLES = 1_000
LATENCY_RATE = 200.0


def now_ms() -> int:
    """Tell the time in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def steady(name: str) -> Figures:
    """1,000 users with 2 connections: heartbeats and reports that wait with the broker."""
    at = now_ms()
    count = STEADY_MESSAGES // (USUAL_SHARE if name == "usual" else 1)
    with Rig() as rig, rig.subject(name) as subject:
        load.publish_all(rig.port, load.split(load.logins(1000, 2, at), 4))
        subject.sentinel()
        took, cpu = subject.work_off(load.split(load.reports(1000, 2, at, count), 4))
        return {"messages/s": count / took, "CPU µs/message": cpu / count * 1e6}


def herd(name: str) -> Figures:
    """20,000 logins of 10,000 users that wait; of the bridge: every record and status is right afterwards."""
    at = now_ms()
    users = HERD_USERS // (USUAL_SHARE if name == "usual" else 1)
    with Rig() as rig, rig.subject(name) as subject:
        took, cpu = subject.work_off(load.split(load.logins(users, 2, at), 4))
        figures = {"logins/s": 2 * users / took, "CPU µs/login": cpu / users / 2 * 1e6}
        if name == BRIDGE:
            _require_all(rig, users)
        return figures


def offered(name: str) -> Figures:
    """20,000 logins at 20,000 a second, with mosquitto's default window and queue: what is lost."""
    at = now_ms()
    with Rig(window=20, queue=1000) as rig, rig.subject(name) as subject:
        streams = load.split(load.logins(HERD_USERS, 2, at), 4)
        took = load.publish_all(rig.port, streams, rate=20_000)
        subject.sentinel()
        lost = 2 * HERD_USERS - _records(rig)
    return {"offered/s": 2 * HERD_USERS / took, "lost": lost}


def die_off(name: str) -> Figures:
    """2,000 sockets with wills are cut at once: until the last status says offline."""
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (min(16_384, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2
    )
    with Rig() as rig, rig.subject(name) as subject:
        counter = StatusCounter(rig.port)
        sockets = []
        for n in range(DIE_OFF):
            ending = f'{{"connectionId":"{n}"}}'.encode()
            sock = load.connect(rig.port, f"client{n}", (f"presence/user{n}/client{n}/will", ending))
            sock.sendall(packets.publish_packet(f"presence/user{n}/client{n}/login", ending, 1))
            sockets.append(sock)
        for sock in sockets:
            sock.recv(4)
        subject.sentinel()
        _until(lambda: len(counter.states) >= DIE_OFF, counter)
        began = time.perf_counter()
        for sock in sockets:
            sock.close()
        cut = time.perf_counter() - began
        _until(lambda: counter.offline >= DIE_OFF, counter)
        took = time.perf_counter() - began
        counter.close()
        return {"last offline s": took, "cutting s": cut}


def latency(name: str) -> Figures:
    """200 reports a second, then 200 cut sockets a second: from publish, or cut, to the status seen."""
    with Rig() as rig, rig.subject(name):
        reports = report_latencies(rig)
        wills = _cut_latencies(rig)
    return {
        "report p50 ms": percentile(reports, 50),
        "report p99 ms": percentile(reports, 99),
        "cut p50 ms": percentile(wills, 50),
        "cut p99 ms": percentile(wills, 99),
    }


def growth(records: int) -> Callable[[str], Figures]:
    """Measure with this many connection records in the database, up to 100,000 of them open."""

    def measure(name: str) -> Figures:
        at = now_ms()
        with Rig() as rig:
            Store(rig.database).open()
            opened = populate(Path(rig.directory) / "presence.db", records, at)
            store = Store(rig.database)
            store.open()
            checks = []
            for _ in range(20):
                began = time.perf_counter()
                with store.transaction() as tx:
                    if tx.due_users(at, 200):
                        raise RuntimeError("something was due")
                checks.append(time.perf_counter() - began)
            store.close()
            began = time.perf_counter()
            with rig.subject(name) as subject:
                started = time.perf_counter() - began
                users = opened // 2
                _, cpu = subject.work_off(load.split(load.reports(users, 2, at, STEADY_MESSAGES), 4))
                return {
                    "CPU µs/message": cpu / STEADY_MESSAGES * 1e6,
                    "start s": started,
                    "idle check ms": statistics.median(checks) * 1e3,
                    "memory MiB": subject.memory_mib(),
                }

    return measure


def report_latencies(rig: Rig) -> list[float]:
    """Return the seconds from the publish of each report to the status seen."""
    publisher = load.connect(rig.port, "publisher")
    observer = _observer(rig)
    samples = []
    for n in range(LATENCY_SAMPLES + 1):
        payload = json.dumps({"connectionId": "c", "idle": n % 2 == 0}).encode()
        began = time.perf_counter()
        publisher.sendall(packets.publish_packet("presence/latency/client/activity", payload, 1 + n % 60_000))
        observer.recv(65_536)
        took = time.perf_counter() - began
        publisher.recv(4)
        if n:
            samples.append(took)
        time.sleep(max(0.0, 1 / LATENCY_RATE - took))
    publisher.close()
    observer.close()
    return samples


def _cut_latencies(rig: Rig) -> list[float]:
    sockets = []
    for n in range(LATENCY_SAMPLES // 2):
        sock = load.connect(rig.port, f"cut{n}", (f"presence/cut{n}/client/will", b""))
        sock.sendall(packets.publish_packet(f"presence/cut{n}/client/login", b"", 1))
        sock.recv(4)
        sockets.append(sock)
    counter = StatusCounter(rig.port)
    _until(lambda: sum(u.startswith("cut") for u in list(counter.states)) == len(sockets), counter)
    counter.close()
    observer = _observer(rig)
    samples = []
    for sock in sockets:
        began = time.perf_counter()
        sock.close()
        observer.recv(65_536)
        took = time.perf_counter() - began
        samples.append(took)
        time.sleep(max(0.0, 1 / LATENCY_RATE - took))
    observer.close()
    return samples


def _observer(rig: Rig) -> socket.socket:
    """Subscribe to the statuses, and let the retained ones pass."""
    observer = load.connect(rig.port, f"observer-{time.monotonic_ns()}")
    observer.sendall(packets.subscribe_packet([("status/+", 0)], 1))
    observer.settimeout(0.5)
    with suppress(TimeoutError):
        while True:
            observer.recv(1 << 20)
    observer.settimeout(30)
    return observer


def percentile(samples: list[float], percent: int) -> float:
    """Return a percentile of seconds, in milliseconds."""
    return statistics.quantiles(samples, n=100)[percent - 1] * 1e3


def _records(rig: Rig) -> int:
    with closing(sqlite3.connect(rig.directory / "presence.db")) as database:
        sql = "SELECT COUNT(*) FROM connections WHERE user_id LIKE 'user%' AND logout_time IS NULL"
        return int(database.execute(sql).fetchone()[0])


def _require_all(rig: Rig, users: int) -> None:
    if _records(rig) != 2 * users:
        raise RuntimeError(f"{_records(rig)} records instead of {2 * users}")
    counter = StatusCounter(rig.port)

    def right() -> bool:
        states = [json.loads(s) for u, s in list(counter.states.items()) if u.startswith("user")]
        return len(states) == users and all(s["online"] and s["connections"] == 2 for s in states)

    _until(right, counter)
    counter.close()


def _until(condition: Callable[[], bool], counter: StatusCounter, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        counter.changed.clear()
        if not condition() and not counter.changed.wait(1.0) and time.monotonic() > deadline:
            raise RuntimeError(f"waited {timeout_s:.0f} s in vain: {len(counter.states)} statuses")
