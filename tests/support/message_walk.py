"""The way of one message through a real link and a held bridge: the files that are called with it, in order."""

import socket
import sys
from contextlib import suppress
from inspect import CO_GENERATOR
from pathlib import Path
from types import FrameType
from typing import Any

import mqtt_presence
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.link import Link
from mqtt_presence.mqtt.packets import publish_packet
from mqtt_presence.mqtt.url import BrokerUrl
from tests.support.held_bridge import HeldBridge

_PACKAGE = str(Path(mqtt_presence.__file__).parent) + "/"
_ENDS = {"ack", "complete"}
"""The functions that a message reaches after its commit, or after its refusal: its way back."""


class Walk:
    """The stays of a message between socket and commit, or the end of its processing.

    A stay begins when a function of another file is called with the message, or with a value made of it: bytes,
    an event, a batch, an outcome. A name in the message shows this in `repr` of an argument. A stay also begins
    when a function takes the message from a queue. While a function asks another for an answer, it is not left.

    Args:
        mark: the name.

    """

    def __init__(self, mark: str) -> None:
        self._mark = mark
        self._is_over = False
        self._generators: list[FrameType] = []
        self._holders: list[FrameType] = []
        self.stays: list[str] = []
        """The files, in order."""

    def of(self, folder: str) -> list[str]:
        """Return the stays in a folder; calls of other folders in between do not end one."""
        stays = [stay.removeprefix(folder) for stay in self.stays if stay.startswith(folder)]
        return [stay for at, stay in enumerate(stays) if stays[at - 1 : at] != [stay]]

    def returns(self, folder: str) -> list[str]:
        """Return the files of a folder that are entered again after they were left."""
        stays = self.of(folder)
        return [stay for at, stay in enumerate(stays) if stay in stays[:at]]

    def __call__(self, frame: FrameType, event: str, _arg: object) -> None:
        file = _file_of(frame)
        if event != "call" or file is None or self._is_over or self._is_resumed(frame):
            return
        if self.stays and frame.f_code.co_name in _ENDS:
            self._is_over = True
        if self._is_over or not self._is_carried(frame):
            return
        caller = frame.f_back
        while caller is not None and _file_of(caller) is None:
            caller = caller.f_back
        came_from = None if caller is None else _file_of(caller)
        if came_from is not None and not self._holds(caller, came_from):
            self._stay(came_from)  # it has taken the message from a queue, or from the socket
        self._holders.append(frame)
        if file != came_from:
            self._stay(file)

    def _holds(self, frame: FrameType | None, file: str) -> bool:
        """Return whether a function of the file that is at work has the message already; note that one has."""
        callers = []
        while frame is not None:
            callers.append(frame)
            frame = frame.f_back
        of_file = [f for f in callers if _file_of(f) == file]
        is_held = any(known is f for f in of_file for known in self._holders)
        self._holders += of_file
        return is_held

    def _stay(self, file: str) -> None:
        if not self.stays or file != self.stays[-1]:
            self.stays.append(file)

    def _is_resumed(self, frame: FrameType) -> bool:
        """Return whether a generator goes on, which no call has entered."""
        if not frame.f_code.co_flags & CO_GENERATOR:
            return False
        is_resumed = any(known is frame for known in self._generators)
        self._generators.append(frame)
        return is_resumed

    def _is_carried(self, frame: FrameType) -> bool:
        for name, value in frame.f_locals.items():
            if name not in ("self", "cls"):
                with suppress(Exception):
                    if self._mark in repr(value):
                        return True
        return False


def _file_of(frame: FrameType) -> str | None:
    name = frame.f_code.co_filename
    return name.removeprefix(_PACKAGE).removesuffix(".py") if name.startswith(_PACKAGE) else None


class WalkedBridge:
    """A held bridge with a real link, whose broker is the test at the other end of a socket."""

    def __init__(self, database: str, **config: Any) -> None:
        url = BrokerUrl.parse("mqtt://bridge@127.0.0.1")
        link = Link(LinkConfig((url,), "bridge-1", mqtt5=False), lambda: ("bridge/state", b"{}"))
        ours, self._sock = socket.socketpair()
        ours.setblocking(False)
        link._client._sock = ours
        self._held = HeldBridge(database, link=link, **config)
        self._mid = 0
        self._sock.sendall(b"\x20\x02\x00\x00")
        self._held.step()

    def send(self, topic: str, payload: bytes, *, retain: bool = False, dup: bool = False) -> None:
        """Deliver a message; with the packet id of the message before if it is sent again."""
        self._mid += not dup
        self._sock.sendall(publish_packet(topic, payload, self._mid, retain=retain, dup=dup))
        self._held.step(seconds=20.0)

    def walk(self, mark: str, topic: str, payload: bytes, *, retain: bool = False, dup: bool = False) -> Walk:
        """Deliver a message and follow it."""
        walk = Walk(mark)
        before = sys.getprofile()
        sys.setprofile(walk)
        try:
            self.send(topic, payload, retain=retain, dup=dup)
        finally:
            sys.setprofile(before)
        return walk

    def close(self) -> None:
        self._held.link.close()
        self._held.store.close()
        self._sock.close()
