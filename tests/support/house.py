"""A house full of devices: a broker, the devices on it, and the database of the bridge that follows them."""

from collections.abc import Iterable
from typing import Any

from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.fleets import Device
from tests.support.mqtt import Client
from tests.support.postgres import query
from tests.support.waiting import until


class House:
    """Devices on a broker, and the database of the bridge that follows them."""

    def __init__(self, broker: Mosquitto, database: str) -> None:
        self.broker, self.database = broker, database
        self.number = 0

    def bridge(self, *profiles: str, **settings: Any) -> BridgeThread:
        return BridgeThread(broker=self.broker.url, database=self.database, profiles=profiles, **settings)

    def connect(self, device: Device, *, gone: bytes | None = None) -> Client:
        """Connect a device with its will, as its firmware does; it has not published its birth yet."""
        self.number += 1
        will = (device.will_topic, device.gone if gone is None else gone, device.will_qos, device.births)
        return self.broker.client("devices", f"device-{self.number}", will=will)

    def give_birth(self, client: Client, device: Device, there: bytes | None = None) -> None:
        """Publish the birth of a device over its connection, as its firmware does."""
        payload = device.there if there is None else there
        client.publish(device.topic, payload, retain=device.births, qos=device.birth_qos)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        self.broker.publisher("", "").publish(topic, payload, retain=retain, qos=qos)

    def records(self, user: str) -> list[dict[str, Any]]:
        rows = query(self.database, "SELECT * FROM connections ORDER BY id")
        return [row for row in rows if row["user_id"] == user]

    def state(self, user: str) -> str:
        rows = query(self.database, "SELECT user_id, state FROM users")
        return next((row["state"] for row in rows if row["user_id"] == user), "none")

    def users(self) -> list[str]:
        return [row["user_id"] for row in query(self.database, "SELECT user_id FROM users ORDER BY user_id")]

    def wait(self, user: str, state: str, deadline_s: float = 20.0) -> None:
        until(
            lambda: self.state(user) == state,
            f"{user} is {state}\n{self.broker.log()}",
            deadline_s=deadline_s,
        )

    def wait_for_all(self, devices: Iterable[Device], state: str, deadline_s: float = 20.0) -> None:
        """Wait until all these devices are in one state."""
        missing = {device.user for device in devices}

        def are_all() -> bool:
            rows = query(self.database, "SELECT user_id, state FROM users")
            missing.difference_update([row["user_id"] for row in rows if row["state"] == state])
            return not missing

        try:
            until(are_all, deadline_s=deadline_s)
        except AssertionError:
            found = {user: self.state(user) for user in missing}
            raise AssertionError(f"not {state}: {found}\n{self.broker.log()}") from None

    def mark(self, name: str) -> None:
        """Wait until the bridge has committed everything that was published before."""
        self.broker.say(name, "marker", "login")
        self.wait(name, "online")
