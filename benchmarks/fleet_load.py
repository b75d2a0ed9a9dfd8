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


def fleets(name: str) -> dict[str, float]:
    """5,000 devices of three profiles: the cost of a client's message, a stranger's, a heartbeat."""
    at = time.time_ns() // 1_000_000
    with Rig() as rig:
        config = rig.directory / "presence.toml"
        names = ", ".join(f'"{one}"' for one in SHIPPED)
        tables = "".join(_OWN_PROFILE.format(n=n) for n in range(OWN))
        config.write_text(f"profiles = [{names}]\n{tables}")
        with rig.subject(name, "--config", str(config)) as subject:
            births = [
                *((f"tele/device{n}/LWT", b"Online") for n in range(DEVICES // 3)),
                *((f"wled/device{n}/status", b"online") for n in range(DEVICES // 3)),
                *(
                    (f"zigbee2mqtt/device{n}/availability", b'{"state":"online"}')
                    for n in range(DEVICES // 3)
                ),
            ]
            load.publish_all(rig.port, load.split(births, 4))
            load.publish_all(rig.port, load.split(load.logins(1000, 2, at), 4))
            subject.sentinel()
            strangers = [(f"no device {n}/status", b"online") for n in range(MESSAGES)]
            beats = [(f"wled/device{n % (DEVICES // 3)}/status", b"online") for n in range(MESSAGES)]
            costs = {
                "ours": load.reports(1000, 2, at, MESSAGES),
                "no profile's": strangers,
                "a heartbeat": beats,
            }
            figures = {}
            for what, messages in costs.items():
                _, cpu = subject.work_off(load.split(list(messages), 4))
                figures[f"CPU µs/message, {what}"] = cpu / MESSAGES * 1e6
            figures["no profile's / ours"] = (
                figures["CPU µs/message, no profile's"] / figures["CPU µs/message, ours"]
            )
            return figures
