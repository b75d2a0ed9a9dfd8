"""The load of fleets: foreign messages beside the clients' own, with thirty profiles in force."""

import time

from benchmarks import load
from benchmarks.rig import Rig

DEVICES = 5_000
MESSAGES = 60_000
SHIPPED = (
    "esphome", "espresense", "frigate", "generic", "homie", "homie5", "mosquitto_bridge", "openhasp",
    "openmqttgateway", "owntracks", "rtl433", "shelly", "shelly2", "sparkplug", "tasmota", "theengs",
    "valetudo", "wled", "zigbee2mqtt", "zwavejs",
)  # fmt: skip
OWN = 10
_OWN_PROFILE = """
[profile.own{n}]
availability = [{{ topic = "plant{n}/{{line}}/{{device}}/alive", there = ["1"], gone = ["0"] }}]
"""


_SCALE = 5_000
"""Messages a second beside which the heartbeats come: 5,000 devices, one each in ten seconds."""
_BEATS_EVERY = _SCALE * 10 // DEVICES
_LIMIT = 1.3

Messages = list[tuple[str, bytes]]


def fleets(name: str) -> dict[str, float]:
    """5,000 devices of three profiles, each with a heartbeat every 10 s: the cost of a client's message, and
    that of one that passes a filter and matches no profile, each on another topic.
    """
    at = time.time_ns() // 1_000_000
    with Rig() as rig:
        config = rig.directory / "presence.toml"
        names = ", ".join(f'"{one}"' for one in SHIPPED)
        tables = "".join(_OWN_PROFILE.format(n=n) for n in range(OWN))
        config.write_text(f"profiles = [{names}]\n{tables}")
        with rig.subject(name, "--config", str(config)) as subject:
            load.publish_all(rig.port, load.split(_births(), 4))
            load.publish_all(rig.port, load.split(load.logins(1000, 2, at), 4))
            subject.sentinel()
            beats = _beats(MESSAGES)
            costs = {
                "a heartbeat": beats,
                "ours": _beside(list(load.reports(1000, 2, at, MESSAGES)), beats),
                "no profile's": _beside(
                    [(f"no device {n}/status", b"online") for n in range(MESSAGES)], beats
                ),
            }
            figures: dict[str, float] = {}
            for what, messages in costs.items():
                _, cpu = subject.work_off(load.split(messages, 4))
                of_beats = (len(messages) - MESSAGES) * figures.get("CPU µs/message, a heartbeat", 0.0)
                figures[f"CPU µs/message, {what}"] = (cpu * 1e6 - of_beats) / MESSAGES
            ratio = figures["CPU µs/message, no profile's"] / figures["CPU µs/message, ours"]
            if ratio > _LIMIT:
                raise RuntimeError(f"a message that matches no profile costs {ratio:.2f} times one of ours")
            return figures | {"no profile's / ours": ratio}


def _births() -> Messages:
    third = range(DEVICES // 3)
    return [
        *((f"tele/device{n}/LWT", b"Online") for n in third),
        *((f"wled/device{n}/status", b"online") for n in third),
        *((f"zigbee2mqtt/device{n}/availability", b'{"state":"online"}') for n in third),
    ]


def _beats(count: int) -> Messages:
    """Return signs of life of the three fleets."""
    third = DEVICES // 3
    kinds = (
        ("tele/device{n}/STATE", b'{"UptimeSec":3612,"POWER":"ON"}'),
        ("wled/device{n}/status", b"online"),
        ("zigbee2mqtt/device{n}/availability", b'{"state":"online"}'),
    )
    return [(kinds[n % 3][0].format(n=n // 3 % third), kinds[n % 3][1]) for n in range(count)]


def _beside(messages: Messages, beats: Messages) -> Messages:
    """Return the messages with a heartbeat among them as often as the devices send one."""
    mixed: Messages = []
    for n, message in enumerate(messages):
        mixed.append(message)
        if n % _BEATS_EVERY == 0:
            mixed.append(beats[n // _BEATS_EVERY])
    return mixed
