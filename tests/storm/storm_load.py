"""The clients of the kill test: logins, reports and ends of two thousand users, and storms of them."""

import json
import random
import threading
import time
from collections.abc import Iterator

from tests.support.brokers import Shipped
from tests.support.said import Client, Message, Said
from tests.support.waiting import now_ms

USERS = 2_000
_PHONES = 2
_STORM = 1_500
_STORM_EVERY_S = 20.0


class StormLoad:
    """A thread that speaks for all clients, until it is stopped.

    Each client names its connections and its times, so it does not matter which bridge gets its messages.

    Args:
        broker: gets the messages.
        said: follows the clients.
        rate: messages a second.
        seed: of all that it decides.

    """

    def __init__(self, broker: Shipped, said: Said, *, rate: float, seed: int) -> None:
        self._broker = broker
        self._said = said
        self._rate = rate
        self._random = random.Random(seed)
        self._connections = 0
        self._moments: dict[Client, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self.messages = self.storms = 0
        self.error: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop once everything that was sent is acknowledged."""
        self._done.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the broker does not acknowledge the load"
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            client = self._broker.publisher("", "")
            next_storm_s = time.monotonic() + _STORM_EVERY_S / 2
            while not self._done.is_set():
                began_s = time.monotonic()
                count = self._random.randrange(1, 60)
                steps = (self._step() for _ in range(count))
                if began_s > next_storm_s:
                    next_storm_s = began_s + _STORM_EVERY_S
                    steps = self._storm()
                    self.storms += 1
                self.messages += client.publish_all(self._said.all(steps))
                self._done.wait(max(0.0, began_s + count / self._rate - time.monotonic()))
        except BaseException as error:  # noqa: BLE001 - for the test to see
            self.error = error

    def _step(self) -> Message:
        return self._message(self._client())

    def _client(self) -> Client:
        user = self._random.randrange(USERS)
        return Client(f"user-{user}", f"user-{user}-phone-{self._random.randrange(_PHONES)}")

    def _storm(self) -> Iterator[Message]:
        """Many are cut at once, and log in again at once."""
        clients = list({self._client() for _ in range(_STORM)})
        for client in clients:
            if client in self._said.here:
                yield self._message(client, "will")
        for client in clients:
            if client not in self._said.here:
                yield self._message(client, "login")

    def _message(self, client: Client, verb: str = "") -> Message:
        here = self._said.here.get(client)
        if not verb:
            ends = self._random.choice(("will", "logout"))
            verb = "login" if here is None else "activity" if self._random.random() < 0.7 else ends
        fields: dict[str, object] = {}
        if verb == "login":
            self._connections += 1
            fields = {"connectionId": f"c-{self._connections}", "time": self._moment(client)}
        else:
            assert here is not None
            fields = {"connectionId": here.connection}
            if verb == "activity":
                idle = self._random.random() < 0.5
                fields |= {"idle": idle, "lastActivity": self._moment(client)}
        return f"presence/{client.user}/{client.id}/{verb}", json.dumps(fields).encode()

    def _moment(self, client: Client) -> int:
        """Return a time later than any other of this client: of two reports of one moment the idle one wins."""
        self._moments[client] = max(self._moments.get(client, 0) + 1, now_ms())
        return self._moments[client]
