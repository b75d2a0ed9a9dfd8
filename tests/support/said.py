"""What clients have said, and what must come of it: the other witness of every fault test, who asks no bridge."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

Message = tuple[str, bytes]


class Client(NamedTuple):
    user: str
    id: str


@dataclass
class Here:
    """A connection that is there."""

    connection: str | None
    """Its id; None: it goes by none."""
    idle: bool | None = None
    """What it has said last of that."""


@dataclass
class Said:
    """Follows clients that say things in a sensible order, each of its own connection.

    Repeats are of no account; so what is said a second time, or in another order, need not be told to this.
    """

    logins: Counter[tuple[Client, str | None]] = field(default_factory=Counter)
    """Those that were acknowledged."""
    unsure: set[tuple[Client, str | None]] = field(default_factory=set)
    """Whose acknowledgement has not come: the broker has them, or has not."""
    here: dict[Client, Here] = field(default_factory=dict)
    """Who is there now."""

    def all(self, messages: Iterable[Message]) -> Iterator[Message]:
        """Take note of messages on their way to a broker, that the test waits for to acknowledge them all."""
        for topic, payload in messages:
            _, user, client, verb = topic.split("/")
            self.note(Client(user, client), verb, payload)
            yield topic, payload

    def note(self, client: Client, verb: str, payload: bytes) -> None:
        """Take note of a message that was acknowledged."""
        fields = json.loads(payload) if payload else {}
        connection = fields.get("connectionId")
        here = self.here.get(client)
        is_same = here is not None and here.connection == connection
        if verb == "login":
            # Without an id it is a connection of its own unless one without an id is there.
            if not is_same and (connection is None or (client, connection) not in self.logins):
                self.logins[client, connection] += 1
                self.here[client] = Here(connection)
        elif here is None or not is_same:
            pass
        elif verb == "activity":
            here.idle = fields.get("idle", False)
        else:
            self.gone(client)

    def gone(self, client: Client) -> None:
        """Take note that its connection is over."""
        self.here.pop(client, None)

    def status_of(self, user: str) -> tuple[str, int]:
        """Tell a user's state, and the number of connections, from what was said."""
        idle = [here.idle for client, here in self.here.items() if client.user == user]
        state = "offline" if not idle else "idle" if all(idle) else "online"
        return state, len(idle)

    @property
    def users(self) -> set[str]:
        """Everybody who has logged in."""
        return {client.user for client, _ in self.logins}


def login_of(number: int, users: int, *, announce: bool = False) -> Message:
    """Make the login of a client of its own, of one of so many users; `announce`: it says that it answers."""
    payload = json.dumps({"connectionId": f"id-{number}", "announce": announce}).encode()
    return _topic(number, users, "login"), payload


def report_of(number: int, users: int, *, idle: bool | None = None) -> Message:
    """Make a sign of life of it; None: a heartbeat."""
    report = {} if idle is None else {"idle": idle}
    return _topic(number, users, "activity"), json.dumps({"connectionId": f"id-{number}"} | report).encode()


def end_of(number: int, users: int, verb: str = "will") -> Message:
    """Make its end."""
    return _topic(number, users, verb), json.dumps({"connectionId": f"id-{number}"}).encode()


def life_of(numbers: range, users: int) -> Iterator[Message]:
    """Make what these clients say: a login, a report, and, every other one of them, a will or a logout."""
    for number in numbers:
        yield login_of(number, users)
        yield report_of(number, users, idle=number % 3 == 0)
        if number % 2:
            yield end_of(number, users, "will" if number % 4 == 1 else "logout")


def _topic(number: int, users: int, verb: str) -> str:
    return f"presence/user-{number % users}/client-{number}/{verb}"
