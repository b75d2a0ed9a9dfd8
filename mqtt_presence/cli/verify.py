"""``mqtt-presence verify``: compare database and broker, and put right what differs."""

import queue
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Annotated, Any, Self

import msgspec
import typer
from msgspec.structs import replace

from mqtt_presence import publications as told
from mqtt_presence.bridge import wall_clock
from mqtt_presence.cli import logs
from mqtt_presence.cli.endpoints import endpoint_of
from mqtt_presence.cli.options import TLS, with_settings
from mqtt_presence.cli.output import complain, say, say_json
from mqtt_presence.client.connection import Connection, Hooks, Receipt
from mqtt_presence.client.options import Endpoint
from mqtt_presence.errors import BrokerError
from mqtt_presence.model import Status, UserId, UserPresence
from mqtt_presence.settings import Settings, duration
from mqtt_presence.store import Store
from mqtt_presence.store.queries import Reader
from mqtt_presence.times import LATEST, to_iso
from mqtt_presence.topics import Topics
from mqtt_presence.verification import CHUNK, Difference, Shown, Verifier, outcome_of, shown

DIFFERENT = 1
_ANSWER_S = 10.0
_QUIET_ALL_S = 1.0
_QUIET_S = 0.1
_MOMENTS = ("since", "last_login", "last_activity")


@with_settings("broker", "database", "prefix", "publish_private", *TLS)
def command(
    settings: Settings,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what differs.")] = False,
    settle: Annotated[
        str,
        typer.Option(
            "--settle",
            help="How long the bridge has to publish what is on its way, before it counts as different.",
            metavar="DURATION",
        ),
    ] = "5s",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each difference.")
    ] = False,
) -> None:
    """Compare the database with the broker.

    For every user: the users row with the live connections, and the retained status with the row. The bridge
    may run meanwhile. Repairing takes the bridge's user, in --broker. Exit codes: 0 all is right, or
    repaired; 1 differences remain, or broker or database cannot be used; 2 a setting is wrong.
    """
    logs.quiet()
    settle_s = duration("settle", settle)
    endpoint = endpoint_of(settings, f"verify-{secrets.token_hex(8)}")
    line = _Retained(endpoint, Topics(settings.prefix), private=settings.publish_private)
    with _Kept(settings.database) as kept, line as retained:
        verifier = Verifier(
            kept, retained, settle_s=settle_s, monotonic=time.monotonic, pause=time.sleep, now=wall_clock
        )
        found = verifier.differences()
        _show(found, as_json)
        remaining = found
        if found and repair:
            remaining = verifier.repair(found)
            if remaining:
                complain("not repaired (it takes a user who may publish statuses, as the bridge's):")
                _show(remaining, as_json)
    if not as_json:
        say(_summary(verifier.users, found, remaining))
    if remaining:
        raise typer.Exit(DIFFERENT)


def _show(found: Sequence[Difference], as_json: bool) -> None:
    for difference in found:
        if as_json:
            say_json(msgspec.json.encode(_Told.of(difference)))
        else:
            say(
                f"{difference.user_id}: {difference.kind}"
                + _listed("", difference.found)
                + _listed("should be", difference.expected)
            )


def _listed(what: str, facts: Mapping[str, Any]) -> str:
    told = [what] if what and facts else []
    told += [f"{name}={_readable(name, value)}" for name, value in facts.items()]
    return "".join(f"  {text}" for text in told)


def _readable(name: str, value: Any) -> str:
    return to_iso(value) if name in _MOMENTS and 0 <= value <= LATEST else str(value)


def _summary(users: int, found: Sequence[Difference], remaining: Sequence[Difference]) -> str:
    if not found:
        return f"{users} users, all is right."
    if not remaining:
        return f"{users} users, {len(found)} differences, all repaired."
    return f"{users} users, {len(remaining)} differences."


class _Facts(msgspec.Struct, rename="camel", omit_defaults=True):
    version: int | None = None
    state: str | None = None
    online: bool | None = None
    idle: bool | None = None
    connections: int | None = None
    since: int | None = None
    last_login: int | None = None
    last_activity: int | None = None
    columns: str | None = None


class _Told(msgspec.Struct, rename="camel"):
    user_id: str
    kind: str
    expected: _Facts
    found: _Facts

    @classmethod
    def of(cls, difference: Difference) -> "_Told":
        return cls(
            difference.user_id,
            difference.kind,
            _Facts(**difference.expected),
            _Facts(**difference.found),
        )


# The database.


class _Kept:
    """Reads, and writes only what `correct` has to change: whoever only compares takes no lock."""

    def __init__(self, url: str) -> None:
        self._reader = Reader(url)
        self._store = Store(url)

    def __enter__(self) -> Self:
        self._reader.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._store.close()
        self._reader.__exit__(kind, error, trace)

    def odd(self) -> set[UserId]:
        return self._reader.odd()

    def page(self, after: str) -> list[UserPresence]:
        return self._reader.presences_page(after=after, limit=CHUNK)

    def read(self, user_ids: Iterable[UserId]) -> dict[UserId, UserPresence]:
        users: dict[UserId, UserPresence] = {}
        rest = list(user_ids)
        for start in range(0, len(rest), CHUNK):
            users |= self._reader.presences(rest[start : start + CHUNK])
        return users

    def correct(
        self, user_ids: Sequence[UserId], correct: Callable[[UserPresence], UserPresence]
    ) -> dict[UserId, UserPresence]:
        users = self.read(user_ids)
        wrong = [user_id for user_id, user in users.items() if correct(user) != user]
        return users | (self._write(wrong, correct) if wrong else {})

    def _write(
        self, user_ids: Sequence[UserId], correct: Callable[[UserPresence], UserPresence]
    ) -> dict[UserId, UserPresence]:
        with self._store.transaction() as tx:  # they may have changed meanwhile
            kept = tx.load(dict.fromkeys(user_ids, ()))
            users = {user_id: correct(user) for user_id, user in kept.items()}
            changed = [user for user_id, user in users.items() if user != kept[user_id]]
            tx.save(outcome_of(user if user.status else replace(user, status=Status())) for user in changed)
            for user in changed:
                if user.status is None:
                    tx.forget(user.user_id)  # raises the version from which newcomers begin
        return users


# The broker.


class _Line(Connection):
    """A connection that can do what clients need not."""

    def __init__(self, endpoint: Endpoint, hooks: Hooks, granted: Callable[[bool], None]) -> None:
        super().__init__(endpoint, hooks, _ANSWER_S)

        def on_subscribe(_client: Any, _data: Any, _mid: int, codes: Any, _properties: Any) -> None:
            granted(not any(code.is_failure for code in codes))

        self._client.on_subscribe = on_subscribe

    def retain(self, topic: str, payload: bytes) -> Receipt:
        return Receipt(self._client.publish(topic, payload, 1, retain=True), self)

    def unsubscribe(self, filters: list[str]) -> None:
        self._client.unsubscribe(filters)


class _Retained:
    """Looks at retained statuses and publishes them.

    A broker does not say that it has sent all that is retained, nor that there is nothing. It answers in
    order: so a second subscription follows the first, and when that is granted and it is quiet, that was all.
    """

    def __init__(self, endpoint: Endpoint, topics: Topics, *, private: bool) -> None:
        self._topics = topics
        self._private = private
        self._url = endpoint.url
        self._heard: queue.SimpleQueue[tuple[UserId, bytes] | None] = queue.SimpleQueue()
        self._went_up = threading.Event()
        self._failure: BrokerError | None = None
        self._is_denied = False
        hooks = Hooks(
            will=lambda: None,
            up=lambda _: self._went_up.set(),
            message=self._take,
            tick=lambda: None,
            down=lambda: None,
        )
        self._line = _Line(endpoint, hooks, self._granted)
        self._thread = threading.Thread(target=self._run, name="verify", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._went_up.wait(3 * _ANSWER_S)
        self._require_up()
        return self

    def __exit__(self, *_: object) -> None:
        self._line.disconnect()
        self._thread.join(1.0)

    def _run(self) -> None:
        try:
            self._line.serve()
        except BrokerError as error:
            self._failure = error
        finally:
            self._went_up.set()

    def look_all(self) -> dict[UserId, Shown]:
        return self._look([self._topics.statuses], None, _QUIET_ALL_S)

    def look(self, user_ids: Sequence[UserId]) -> dict[UserId, Shown]:
        return self._look([self._topics.status(u) for u in user_ids], set(user_ids), _QUIET_S)

    def publish(self, users: Sequence[UserPresence]) -> None:
        receipts = [self._tell(user) for user in users]
        for receipt in receipts:
            if not receipt.wait(_ANSWER_S):
                self._require_up()
                raise BrokerError(f"{self._url} did not acknowledge in {_ANSWER_S:g} s")

    def _tell(self, user: UserPresence) -> Receipt:
        if user.status is None:
            return self._line.retain(self._topics.status(user.user_id), b"")
        right = told.of_status(user, user.status, self._topics, private=self._private)
        return self._line.retain(right.topic, right.payload)

    def _look(self, filters: list[str], wanted: set[UserId] | None, quiet_s: float) -> dict[UserId, Shown]:
        seen: dict[UserId, Shown] = {}
        grants = 0
        self._line.subscribe([(topic_filter, 0) for topic_filter in filters])
        needed = 1
        if wanted is not None:  # asked for all at once, mosquitto may drop even this answer
            self._line.subscribe([(self._topics.bridge_state, 0)])
            needed = 2
        while grants < needed or wanted is None or len(seen) < len(wanted):
            try:
                heard = self._heard.get(timeout=_ANSWER_S if grants < needed else quiet_s)
            except queue.Empty:
                if grants == needed:
                    break
                self._require_up()
                raise BrokerError(f"{self._url} does not answer") from None
            if heard is None:
                grants += 1
            elif wanted is None or heard[0] in wanted:
                seen[heard[0]] = shown(*heard)
        self._line.unsubscribe(filters)
        self._require_up()
        return seen

    def _require_up(self) -> None:
        if self._is_denied:
            raise BrokerError(f"{self._url} does not let this user read {self._topics.statuses}")
        if not self._line.is_up:
            raise self._failure or BrokerError(f"the connection to {self._url} was lost")

    def _granted(self, is_granted: bool) -> None:
        self._is_denied = self._is_denied or not is_granted
        self._heard.put(None)

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:
        user_id = self._topics.parse_status(topic)
        if user_id is not None and retained and payload:
            self._heard.put((user_id, payload))
