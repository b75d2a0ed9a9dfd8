"""Calls from a client's threads into an event loop."""

import asyncio
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any

_log = logging.getLogger("mqtt_presence.client")


class LoopCalls:
    """Runs functions in the program's event loop. Has no effect before `bind` and after the loop's end."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        """References, because a loop keeps none to its tasks."""

    def bind(self) -> None:
        """Take the running loop."""
        self._loop = asyncio.get_running_loop()

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Call a function in the loop. May be called from any thread."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(call, *args)
            except RuntimeError:
                _log.debug("the event loop is closed")

    def callback(self, function: Callable[..., object] | None) -> Callable[..., None] | None:
        """Return a function for a thread that runs a callback, a coroutine function too, in the loop."""
        if function is None:
            return None

        def run(*args: Any) -> None:
            try:
                result = function(*args)
            except Exception:  # noqa: BLE001, user code
                _log.exception("a callback failed")
                return
            if inspect.iscoroutine(result):
                self._start(result)

        return lambda *args: self.soon(run, *args)

    def _start(self, coroutine: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("a callback failed", exc_info=task.exception())


async def call_in_thread(call: Callable[[], None], undo: Callable[[], object]) -> None:
    """Run a blocking call in a thread; if the task is cancelled, undo the call and wait for its end.

    Without the wait, a call that has not begun yet would take effect after `undo`.
    """
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            await asyncio.to_thread(undo)
            await asyncio.wait({running}, timeout=0.05)
        if not running.cancelled() and running.exception() is None:
            await asyncio.to_thread(undo)
        raise
