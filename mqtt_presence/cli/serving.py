"""Running a bridge in the main thread until a signal says otherwise; what `run` and `up` share."""

import gc
import itertools
import queue
import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import FrameType, TracebackType
from typing import Self

from mqtt_presence.bridge.loop import Bridge
from mqtt_presence.bridge.part import Due
from mqtt_presence.bridge.schedule import Schedule
from mqtt_presence.cli.signals import handled
from mqtt_presence.errors import StoreError
from mqtt_presence.settings import Settings
from mqtt_presence.settings.data_directory import default_database, make_data_directory


class Signals:
    """Ends a bridge on the signals of `handled`.

    The first signal ends a bridge cleanly, the second without ceremony, a third ends the process at once:
    nothing that was acknowledged is lost by any of them.
    """

    def __init__(self) -> None:
        # Not events: a handler can interrupt itself, and would then wait for an event's lock for ever.
        self._ends: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._count = itertools.count(1)
        self._bridge: Bridge | None = None
        self._handling = ExitStack()
        self._signals: tuple[signal.Signals, ...] = ()

    def __enter__(self) -> Self:
        self._signals = self._handling.enter_context(handled(self._hear))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handling.close()

    def serve(self, bridge: Bridge, before_the_end: Callable[[], None] = lambda: None) -> None:
        """Run the bridge until a signal comes, or at once to its end if one has come already.

        Args:
            bridge: not started.
            before_the_end: done in another thread while the bridge still works; must end by itself.

        Raises:
            StoreError: the database cannot be used.
            BrokerError: the broker refuses us for good.
            ConfigError: a certificate or the like cannot be used.

        """

        def end() -> None:
            self._ends.get()
            try:
                before_the_end()
            finally:
                self._stop()

        def request(due: Due) -> None:
            with suppress(OSError):  # the bridge has just ended
                bridge.request(due)

        self._bridge = bridge
        _collect_seldom()
        threading.Thread(target=end, name="clean-end", daemon=True).start()
        with Schedule(request) as schedule:
            bridge.add(schedule)
            bridge.run()

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        match next(self._count):
            case 1:
                self._ends.put(None)
            case 2:
                self._ends.put(None)
                self._stop()
                for sign in self._signals:
                    signal.signal(sign, signal.SIG_DFL)

    def _stop(self) -> None:
        if self._bridge is not None:
            with suppress(OSError):  # it has ended by itself
                self._bridge.stop()


def _collect_seldom() -> None:
    """Have the garbage collector look less often, and not at what was there before the bridge.

    It looks for cycles whenever there are 700 more objects than before, so several times in each batch, whose
    objects have none and go with it: a tenth of the bridge's time (docs/performance.md).
    """
    gc.freeze()
    gc.set_threshold(20_000, *gc.get_threshold()[1:])


def make_home(settings: Settings) -> None:
    """Make the data directory if the database belongs there.

    Raises:
        StoreError: the directory cannot be made.

    """
    default = default_database()
    if default and settings.database.startswith(default.removesuffix("presence.db")):
        try:
            make_data_directory()
        except OSError as error:
            raise StoreError(f"cannot open the database: its directory cannot be made: {error}") from error
