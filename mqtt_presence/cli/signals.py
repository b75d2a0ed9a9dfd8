"""Signals that end a command: SIGINT, SIGTERM, and SIGHUP when its terminal is closed.

Commands handle them with `on_end_signals`. For commands that only read, `until_interrupted` raises
KeyboardInterrupt.
"""

import itertools
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_CLOSING_S = 3.0
"""Longer than a command needs to end; a signal within this time is the same signal again."""


@contextmanager
def on_end_signals(*actions: Callable[[], None], then_kill: bool = False) -> Iterator[None]:
    """Call one action for each end signal: the first action for the first signal, and so on.

    SIGINT and SIGTERM are handled even if a shell has the process ignore them (``mqtt-presence run &``).
    SIGHUP stays ignored if it was ignored (``nohup``). When a terminal is closed, both the kernel and the
    shell may send SIGHUP: only the first SIGHUP counts.

    Args:
        actions: called in the signal handler, so they must not take locks.
        then_kill: after the last action, further signals kill the process; by default, the last action is
            repeated.

    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signals.append(signal.SIGHUP)
    count = itertools.count()  # atomic: a handler can interrupt itself
    is_hung_up = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal is_hung_up
        if number == signal.SIGHUP and is_hung_up:
            return
        is_hung_up = is_hung_up or number == signal.SIGHUP
        index = min(next(count), len(actions) - 1)
        actions[index]()
        if then_kill and index == len(actions) - 1:
            for name in signals:
                signal.signal(name, signal.SIG_DFL)

    before = {name: signal.signal(name, handle) for name in signals}
    try:
        yield
    finally:
        for name, previous in before.items():
            signal.signal(name, previous)


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Leave this block, and only this block, on an end signal; again if the end takes long.

    For commands that only read: the signal raises KeyboardInterrupt.
    """
    raise_from_s = 0.0

    def handle() -> None:
        nonlocal raise_from_s
        if time.monotonic() >= raise_from_s:
            raise_from_s = time.monotonic() + _CLOSING_S
            raise KeyboardInterrupt

    with on_end_signals(handle), suppress(KeyboardInterrupt):
        yield
