"""5,000 devices of three fleets at once, each with a heartbeat every 10 s, while the filters of all profiles are in force."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from mqtt_presence.adapters.devices.profile_files import shipped_names
from tests.support.brokers import Mosquitto
from tests.support.fleets import STATE
from tests.support.house import House
from tests.support.mqtt import Client
from tests.support.postgres import query
from tests.support.waiting import until

DEVICES = 5_000
SILENT = 300
"""Devices of each fleet that stop, without a will."""
BEAT_S = 10.0
TIMEOUT_S = 20
STEPS = 100
FLEETS = {
    "tasmota": ("tele/device{n}/LWT", b"Online", b"Offline", "tele/device{n}/STATE", STATE),
    "espresense": (
        "espresense/rooms/device{n}/status", b"online", b"offline",
        "espresense/rooms/device{n}/telemetry", b'{"ip":"192.0.2.31","uptime":60,"rssi":-50}',
    ),
    "zwavejs": (
        "zwave/device{n}/status", b'{"value":true}', b'{"value":false}',
        "zwave/device{n}/lastActive", b'{"time":1,"value":1}',
    ),
}  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, sqlite_url: str) -> Iterator[House]:
    with Mosquitto(tmp_path / "mosquitto") as broker:
        yield House(broker, sqlite_url)


class Heartbeats:
    """The heartbeats of all devices but the silent ones, spread over ten seconds, at QoS 0."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._beats = [
            (FLEETS[name][3].format(n=n), FLEETS[name][4])
            for name, n in _devices()
            if n >= SILENT
        ]  # fmt: skip
        self.sent = 0
        self.ended: frozenset[str] = frozenset()
        """Topics of devices that send no more heartbeats."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(20)

    def _run(self) -> None:
        began = time.monotonic()
        for step in range(1_000_000):
            for topic, payload in self._beats[step % STEPS :: STEPS]:
                if topic in self.ended:
                    continue
                self._client.publish(topic, payload, qos=0)
                self.sent += 1
            if self._end.wait(max(0.0, began + (step + 1) * BEAT_S / STEPS - time.monotonic())):
                return


def _devices() -> list[tuple[str, int]]:
    names = list(FLEETS)
    return [(names[n % len(names)], n // len(names)) for n in range(DEVICES)]


def _states(house: House) -> Counter[str]:
    return Counter(row["state"] for row in query(house.database, "SELECT state FROM users"))


def test_five_thousand_devices(house: House) -> None:
    """All are there at once; who is silent ends by `timeout`, who has a will ends by it, and nobody else does."""
    tables = {name: {"timeout": f"{TIMEOUT_S}s"} for name in FLEETS}
    profiles = [name for name in shipped_names() if name != "espurna"]
    with house.bridge(*profiles, profile=tables) as bridge:
        client = house.broker.client("devices", "devices")
        client.publish_all(
            [(FLEETS[name][0].format(n=n).encode(), FLEETS[name][1]) for name, n in _devices()], retain=True
        )
        until(lambda: _states(house) == {"online": DEVICES}, "all are there", deadline_s=60.0)
        with Heartbeats(client) as heartbeats:
            silent = SILENT * len(FLEETS)
            expected = {"online": DEVICES - silent, "offline": silent}
            until(lambda: _states(house) == expected, "the silent ones end", deadline_s=TIMEOUT_S + 40.0)
            reasons = query(
                house.database, "SELECT reason, count(*) AS number FROM connections GROUP BY reason"
            )
            assert {row["reason"]: row["number"] for row in reasons} == {
                None: DEVICES - silent,
                "timeout": silent,
            }
            until(lambda: heartbeats.sent > 2 * (DEVICES - silent), "each has sent two heartbeats")
            gone = [(name, n) for name, n in _devices() if SILENT <= n < 2 * SILENT]
            # A heartbeat after the will would show the device again.
            heartbeats.ended = frozenset(FLEETS[name][3].format(n=n) for name, n in gone)
            house.mark("heartbeats")
            speaker = house.broker.publisher("", "")
            speaker.publish_all(
                [(FLEETS[name][0].format(n=n).encode(), FLEETS[name][2]) for name, n in gone], retain=True
            )
            lost = "SELECT count(*) AS number FROM connections WHERE reason = 'lost'"
            until(lambda: query(house.database, lost)[0]["number"] == len(gone), "the wills end the others")
        assert not bridge.parts.counters.refused
