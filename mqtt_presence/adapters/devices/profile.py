"""The words of a device profile: values only."""

from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

from mqtt_presence.adapters.devices.payload_values import Value

MEANINGS = ("there", "gone", "left", "asleep", "idle", "active", "activity")
"""The meanings that a value of an availability topic can have."""


class Availability(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic that shows whether a device is there. Each list holds the values with that meaning."""

    topic: str
    path: str | None = None
    """Of the value in a JSON payload: keys and numbers with dots between. None: the payload is the value."""
    device: str | None = None
    """The name of the device, where the topic has none."""
    there: tuple[Value, ...] = ()
    gone: tuple[Value, ...] = ()
    """Lost: the will, usually."""
    left: tuple[Value, ...] = ()
    """Gone on purpose."""
    asleep: tuple[Value, ...] = ()
    """Idle, until `sleep_timeout` after the last sign of life."""
    idle: tuple[Value, ...] = ()
    active: tuple[Value, ...] = ()
    activity: tuple[Value, ...] = ()
    """A sign of life."""


class Sleep(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic that announces a sleep."""

    topic: str
    seconds: str
    """The path of the length of the sleep, or two paths with `` - `` between."""
    slack: str | int | float = "2m"
    """The time after the announced end in which the device may still wake."""


class MetaTopic(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic that describes one device; `fields` has a path for each name in the `meta` of the record."""

    topic: str
    fields: dict[str, str]


class MetaList(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic that describes many devices: a JSON list of objects."""

    topic: str
    key: str
    """The path of the device's name in an object."""
    fields: dict[str, str]


class Parent(Struct, frozen=True, forbid_unknown_fields=True):
    """A topic that shows whether the gateway of the devices is there."""

    topic: str
    path: str | None = None
    gone: tuple[Value, ...] = ()
    there: tuple[Value, ...] = ()
    """Empty: all values but `gone`."""


class ProfileWords(Struct, frozen=True, forbid_unknown_fields=True):
    """A profile as a file or the settings have it."""

    title: str = ""
    """The name of the fleet, for people."""
    user: str | None = None
    """The whole user name. None: ``<profile>:{device}``."""
    client: str | None = None
    """The client id. None: the name of the profile."""
    decoder: Literal["words", "sparkplug", "homie5"] = "words"
    birth: Literal["connect", "repeat"] = "repeat"
    """`connect`: each birth is a new connection. `repeat`: a birth may be repeated while connected."""
    late_will: str | int | float = 0
    """For so long after a will, a sign of life takes it back."""
    timeout: str | int | float = 0
    """Silence after which the device is gone; 0: never."""
    sleep_timeout: str | int | float = "25h"
    reconnects: bool = False
    """The device publishes its birth at each connect: rule B3 after a restart of the broker."""
    yields: bool = False
    """Other profiles may read the same topics, and come first."""
    depth: int = 3
    """The greatest number of levels of ``{name...}``."""
    availability: tuple[Availability, ...] = ()
    heartbeat: tuple[str, ...] = ()
    sleep: Sleep | None = None
    meta: tuple[MetaTopic, ...] = ()
    meta_list: MetaList | None = None
    parent: Parent | tuple[Parent, ...] = ()
    where: dict[str, str] = field(default_factory=dict)
    """A regular expression for each name; the whole name must match."""

    @property
    def parents(self) -> tuple[Parent, ...]:
        """The topics of the gateways; while one of them is gone, so are the devices."""
        return (self.parent,) if isinstance(self.parent, Parent) else self.parent


class Profile(Struct, frozen=True):
    """A checked profile under its name."""

    name: str
    words: ProfileWords
    user: str
    client: str
    late_will_ms: int
    timeout_ms: int
    sleep_timeout_ms: int
    slack_ms: int

    @property
    def origin(self) -> str:
        """The origin of its records."""
        return f"profile:{self.name}"


Tables = Mapping[str, Mapping[str, Any]]
"""The tables ``[profile.NAME]`` of the settings, by name."""
