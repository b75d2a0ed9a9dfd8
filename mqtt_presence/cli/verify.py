"""``mqtt-presence verify``: compare database and broker, and put right what differs."""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Annotated, Any, Self

import msgspec
import typer
from msgspec.structs import replace

from mqtt_presence.cli import logs
from mqtt_presence.cli.broker_endpoint import endpoint_of
from mqtt_presence.cli.output import complain, say, say_json
from mqtt_presence.cli.setting_options import TLS, with_settings
from mqtt_presence.client.connect_arguments import Endpoint
from mqtt_presence.client.retained_reader import RetainedReader
from mqtt_presence.errors import BrokerError
from mqtt_presence.protocol import publications as told
from mqtt_presence.protocol.times import LATEST, to_iso, wall_clock
from mqtt_presence.protocol.topics import Topics, is_name
from mqtt_presence.rules.model import Status, UserId, UserPresence
from mqtt_presence.settings import Settings, duration
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader
from mqtt_presence.tools.verify.comparison import CHUNK, Difference, Shown, Verifier, outcome_of, shown

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
    if verifier.unpublished:
        complain(
            f"{verifier.unpublished} users have names that MQTT clients refuse: the bridge publishes nothing"
            " about them (bad_name in docs/operations.md)"
        )
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

    def odd(self, among: Sequence[UserId] | None = None) -> set[UserId]:
        return self._reader.inconsistent_users(among)

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


class _Retained:
    """Reads retained statuses and publishes them."""

    def __init__(self, endpoint: Endpoint, topics: Topics, *, private: bool) -> None:
        self._topics = topics
        self._private = private
        self._url = endpoint.url
        self._reader = RetainedReader(endpoint, topics.bridge_state, _ANSWER_S)

    def __enter__(self) -> Self:
        self._reader.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.__exit__()

    def look_all(self) -> dict[UserId, Shown]:
        return self._shown(self._reader.read([self._topics.statuses], quiet_s=_QUIET_ALL_S))

    def look(self, user_ids: Sequence[UserId]) -> dict[UserId, Shown]:
        wanted = [self._topics.status(user_id) for user_id in user_ids if is_name(user_id)]
        if not wanted:
            return {}
        return self._shown(self._reader.read(wanted, quiet_s=_QUIET_S))

    def publish(self, users: Sequence[UserPresence]) -> None:
        self._reader.publish(map(self._right, (user for user in users if is_name(user.user_id))))

    def _right(self, user: UserPresence) -> tuple[str, bytes]:
        if user.status is None:
            return self._topics.status(user.user_id), b""
        right = told.status_publication(user, user.status, self._topics, private=self._private)
        return right.topic, right.payload

    def _shown(self, found: Mapping[str, bytes]) -> dict[UserId, Shown]:
        if self._reader.denied:
            raise BrokerError(f"{self._url} does not let this user read {self._topics.statuses}")
        return {
            user_id: shown(user_id, payload)
            for topic, payload in found.items()
            if (user_id := self._topics.parse_status(topic)) is not None
        }
