"""Profile trial: which profiles recognise devices on a broker; it only reads, without a database."""

import queue
import re
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from mqtt_presence.adapters.devices.device import Device
from mqtt_presence.adapters.devices.device_adapter import DeviceAdapter
from mqtt_presence.adapters.devices.profile import Profile
from mqtt_presence.adapters.devices.profile_overlaps import refuse_overlaps
from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.network_connection import Hooks, NetworkConnection
from mqtt_presence.errors import BrokerError, ConfigError, PayloadError
from mqtt_presence.mqtt.messages import Incoming
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.rules.model import State

_ANSWER_S = 10.0


class Seen(NamedTuple):
    """A device that a profile recognised."""

    user: str
    state: State


class Trial:
    """Has each profile read the messages of a broker, for itself.

    Args:
        profiles: they may overlap; `generic` and the like read what is left.

    """

    def __init__(self, profiles: Sequence[Profile]) -> None:
        self.profiles = sorted(profiles, key=lambda profile: profile.words.yields)
        self._adapters = {profile.name: DeviceAdapter([profile]) for profile in self.profiles}

    @property
    def filters(self) -> list[str]:
        """The topic filters of all profiles."""
        return sorted({name for adapter in self._adapters.values() for name in adapter.filters})

    def hear(self, topic: str, payload: bytes, *, is_retained: bool) -> None:
        """Have the profiles read a message."""
        message = Incoming(topic, payload, 0, is_retained, False, 0, 1)
        is_read = False
        for profile in self.profiles:
            adapter = self._adapters[profile.name]
            if not adapter.reads(topic) or (is_read and profile.words.yields):
                continue
            is_read = True
            try:
                adapter.read(message, wall_clock())
            except PayloadError:
                continue  # another profile may know the value

    def seen(self) -> dict[str, list[Seen]]:
        """Return the devices of each profile that recognised some."""
        found = {name: sorted(_devices(adapter)) for name, adapter in self._adapters.items()}
        return {name: devices for name, devices in found.items() if devices}

    def settings(self) -> list[str]:
        """Return the lines for the settings file that follow the devices that were seen.

        Profiles that read the same topics get a `where` with the names that were seen.
        """
        seen = self.seen()
        used = [profile for profile in self.profiles if profile.name in seen]
        names = ", ".join(f'"{profile.name}"' for profile in used)
        lines = [f"profiles = [{names}]"]
        for profile in sorted(_overlapping(used), key=lambda p: p.name):
            devices = self._adapters[profile.name].fleets[0].devices.values()
            texts = sorted({(device.names or {}).get("device", "") for device in devices})
            where = {**profile.words.where, "device": "|".join(map(re.escape, texts))}
            pairs = ", ".join(f"{key} = '{text}'" for key, text in where.items())
            lines += ["", f"[profile.{profile.name}]", f"where = {{ {pairs} }}"]
        return lines


def listen(endpoint: Endpoint, trial: Trial, seconds: float) -> list[str]:
    """Have a trial hear the retained and the live messages of a broker; return the filters it denies.

    Args:
        endpoint: the broker, and the user to connect as.
        trial: hears the messages.
        seconds: how long to listen after the broker has answered.

    Raises:
        BrokerError: the broker cannot be reached, or ends the connection.

    """
    messages: queue.SimpleQueue[tuple[str, bytes, bool] | None] = queue.SimpleQueue()
    failures: list[BrokerError] = []
    hooks = Hooks(
        will=lambda: None,
        up=lambda connection: connection.subscribe([(name, 0) for name in trial.filters]),
        message=lambda *message: messages.put(message),
        tick=lambda: None,
        down=lambda: messages.put(None),
    )
    connection = NetworkConnection(endpoint, hooks, _ANSWER_S)

    def serve() -> None:
        try:
            connection.serve()
        except BrokerError as error:
            failures.append(error)
            messages.put(None)

    thread = threading.Thread(target=serve, name="profile trial", daemon=True)
    thread.start()
    deadline = time.monotonic() + seconds
    try:
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = messages.get(timeout=left)
            except queue.Empty:
                break
            if message is None:
                raise failures[0] if failures else BrokerError(f"the connection to {endpoint.url} was lost")
            trial.hear(message[0], message[1], is_retained=message[2])
        if not connection.is_up:
            raise BrokerError(f"{endpoint.url} does not answer")
    finally:
        connection.disconnect()
        thread.join(1.0)
    return connection.denied


def _devices(adapter: DeviceAdapter) -> Iterator[Seen]:
    for fleet in adapter.fleets:
        for device in fleet.devices.values():
            if device.says_there is not None:
                yield Seen(device.user_id, _state(device))


def _state(device: Device) -> State:
    if not device.is_open:
        return State.OFFLINE
    return State.IDLE if device.is_asleep else State.ONLINE


def _overlapping(profiles: Sequence[Profile]) -> list[Profile]:
    found: dict[str, Profile] = {}
    for pair in combinations(profiles, 2):
        try:
            refuse_overlaps(pair)
        except ConfigError:
            found.update({profile.name: profile for profile in pair})
    return list(found.values())
