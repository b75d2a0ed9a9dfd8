"""Clients that come and go in a thread while parts of a cluster are killed."""

import threading
from typing import Self

from tests.support.brokers import _Broker
from tests.support.recorder import Recorder
from tests.support.said import Said, life_of
from tests.support.waiting import until

LIVES = 20
"""Clients of one portion of the load; each says several things."""


class Load:
    """Clients that log in and out in a thread, some hundred messages a second.

    Args:
        broker: gets the messages.
        said: follows the clients.
        first: the number of the first client.

    """

    def __init__(self, broker: _Broker, said: Said, first: int = 0) -> None:
        self._publisher = broker.publisher("", "")
        self._said = said
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.lives = first

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._done.is_set():
            lives = range(self.lives, self.lives + LIVES)
            self._publisher.publish_all(self._said.all(life_of(lives, 100)))
            self.lives += LIVES
            self._done.wait(0.2)


def wait_for_more(watched: Recorder, more: int = 20, deadline_s: float = 20.0) -> None:
    """Wait until the bridge has published more statuses."""
    before = len(watched.heard)
    until(lambda: len(watched.heard) >= before + more, "the bridge publishes", deadline_s)
