"""Serving: `run` and `up` run a bridge in the main thread until a signal ends it."""

import gc
import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Self

from mqtt_presence.bridge.clock import SystemClock
from mqtt_presence.bridge.loop import Bridge
from mqtt_presence.bridge.monitoring.service_manager import ServiceManager
from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.schedule import Schedule
from mqtt_presence.cli.signals import on_end_signals
from mqtt_presence.errors import (
    SeatAsideError,
    SeatDrainedError,
    SeatLostError,
    SetBackError,
    StoreError,
)
from mqtt_presence.settings import Settings
from mqtt_presence.settings.data_directory import default_database, make_data_directory

log = logging.getLogger(__name__)


class ServingSignals:
    """End signals of a command that runs a bridge.

    The first signal ends the bridge cleanly, the second at once; a third kills the process. Acknowledged
    messages are never lost.
    """

    def __init__(self) -> None:
        # A queue rather than an event: a handler that interrupts itself would deadlock on an event's lock.
        self._ends: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._bridge: Bridge | None = None
        self._is_ending = False
        self._handling = ExitStack()

    def __enter__(self) -> Self:
        self._handling.enter_context(on_end_signals(self._end_cleanly, self._end_at_once, then_kill=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handling.close()

    def serve_again(self, make_bridge: Callable[[], Bridge]) -> None:
        """Run a bridge until a signal ends it; after the loss of its seat or of data, run another one.

        Args:
            make_bridge: builds a bridge.

        Raises:
            StoreError: as of `serve`; BrokerError and ConfigError likewise.

        """
        while not self._is_ending:
            try:
                self.serve(make_bridge())
            except (SeatAsideError, SeatDrainedError) as error:
                log.info("%s", error)
            except SeatLostError as error:
                log.warning("%s; waiting as a standby", error)
            except SetBackError as error:
                log.warning("%s; starting again", error)
            else:
                return

    def serve(self, bridge: Bridge, before_end: Callable[[], None] = lambda: None) -> None:
        """Run the bridge until a signal ends it. A signal received before the call ends it at once.

        Args:
            bridge: not started yet.
            before_end: called in another thread before the bridge is stopped; must return by itself.

        Raises:
            StoreError: the database cannot be used.
            BrokerError: the broker refuses the bridge permanently.
            ConfigError: a file that a setting names cannot be used, e.g. a certificate.
            SeatLostError: another process has the seat of this one, or shall have it.
            SetBackError: the database has lost transactions; another bridge repairs the loss.

        """

        def end() -> None:
            self._ends.get()
            try:
                before_end()
            finally:
                self._stop()

        def request(due: Due) -> None:
            with suppress(OSError):  # the bridge has just ended
                bridge.request(due)

        is_first, self._bridge = self._bridge is None, bridge
        if is_first:
            _collect_garbage_seldom()
            threading.Thread(target=end, name="clean-end", daemon=True).start()
        if self._is_ending:
            bridge.stop()
        with Schedule(request) as schedule:
            bridge.add(schedule)
            service_manager = ServiceManager.from_environment(os.environ, SystemClock())
            if service_manager is not None:
                bridge.add(service_manager)
            bridge.run()

    def _end_cleanly(self) -> None:
        self._ends.put(None)

    def _end_at_once(self) -> None:
        self._ends.put(None)
        self._stop()

    def _stop(self) -> None:
        self._is_ending = True
        if self._bridge is not None:
            with suppress(OSError):  # the bridge has ended by itself
                self._bridge.stop()


def _collect_garbage_seldom() -> None:
    """Run the garbage collector less often, and exclude all objects that exist before the bridge starts.

    By default, the collector runs after every 700 new objects, several times in each batch. A batch's objects
    have no cycles, so these runs waste a tenth of the bridge's time (docs/performance.md).
    """
    gc.freeze()
    gc.set_threshold(20_000, *gc.get_threshold()[1:])


def make_default_directory(settings: Settings) -> None:
    """Create the data directory if the database is in it.

    Raises:
        StoreError: the directory cannot be created.

    """
    default = default_database()
    if default and settings.database.startswith(default.removesuffix("presence.db")):
        try:
            make_data_directory()
        except OSError as error:
            raise StoreError(f"cannot open the database: its directory cannot be created: {error}") from error
