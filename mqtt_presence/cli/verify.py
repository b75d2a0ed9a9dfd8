"""``mqtt-presence verify``: compare the database with the broker's retained statuses, and repair them."""

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import typer

from mqtt_presence.cli import logs
from mqtt_presence.cli.broker_endpoint import endpoint_of
from mqtt_presence.cli.output import counted, print_error, print_json, print_line
from mqtt_presence.cli.setting_options import TLS, with_settings
from mqtt_presence.protocol.times import LATEST, to_iso, wall_clock
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.protocol.watchers import fresh_watcher_id
from mqtt_presence.settings import Settings, parse_duration
from mqtt_presence.tools.verify.comparison import Difference, Verifier
from mqtt_presence.tools.verify.sides import BrokerSide, DatabaseSide

DIFFERENT = 1
_TIMES = ("since", "last_login", "last_activity")


@with_settings("broker", "database", "prefix", "publish_private", *TLS)
def command(
    settings: Settings,
    repair: Annotated[bool, typer.Option("--repair", help="Correct the differences.")] = False,
    settle: Annotated[
        str,
        typer.Option(
            "--settle",
            help="How long a difference must last to count; the bridge may be about to publish.",
            metavar="DURATION",
        ),
    ] = "5s",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each difference.")
    ] = False,
) -> None:
    """Compare the database with the broker.

    For every user, compare the user's row with the live connections, and the retained status with the row.
    The bridge may run meanwhile. With --repair, --broker must name the bridge's user.

    Exit codes: 0 no differences, or all repaired; 1 differences remain, or broker or database cannot be used;
    2 a setting is wrong.
    """
    logs.errors_only()
    settle_s = parse_duration("settle", settle)
    endpoint = endpoint_of(settings, fresh_watcher_id())
    with (
        DatabaseSide(settings.database) as database,
        BrokerSide(
            endpoint,
            Topics(settings.prefix),
            private=settings.publish_private,
            discovery=database.discovery(),
        ) as broker,
    ):
        verifier = Verifier(
            database, broker, settle_s=settle_s, monotonic=time.monotonic, pause=time.sleep, now=wall_clock
        )
        found = verifier.differences()
        _show(found, as_json)
        remaining = found
        if found and repair:
            remaining = verifier.repair(found)
            if remaining:
                print_error("not repaired (--broker must name a user who may publish statuses):")
                _show(remaining, as_json)
    if not as_json:
        print_line(_summary(verifier.users, found, remaining))
    if verifier.unpublished:
        print_error(
            f"{counted(verifier.unpublished, 'user')} with a name that MQTT clients refuse: the bridge"
            " publishes no status for such a name (bad_name in docs/operations.md)"
        )
    if remaining:
        raise typer.Exit(DIFFERENT)


def _show(differences: Sequence[Difference], as_json: bool) -> None:
    for difference in differences:
        if as_json:
            print_json(msgspec.json.encode(_DifferenceLine.of(difference)))
        else:
            print_line(
                f"{difference.user_id}: {difference.kind}"
                + _listed("", difference.found)
                + _listed("should be", difference.expected)
            )


def _listed(heading: str, facts: Mapping[str, Any]) -> str:
    parts = [heading] if heading and facts else []
    parts += [f"{name}={_readable(name, value)}" for name, value in facts.items()]
    return "".join(f"  {part}" for part in parts)


def _readable(name: str, value: Any) -> str:
    return to_iso(value) if name in _TIMES and 0 <= value <= LATEST else str(value)


def _summary(users: int, found: Sequence[Difference], remaining: Sequence[Difference]) -> str:
    all_users = counted(users, "user")
    if not found:
        return f"{all_users}, all is right."
    if not remaining:
        return f"{all_users}, {counted(len(found), 'difference')}, all repaired."
    return f"{all_users}, {counted(len(remaining), 'difference')}."


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


class _DifferenceLine(msgspec.Struct, rename="camel"):
    user_id: str
    kind: str
    expected: _Facts
    found: _Facts

    @classmethod
    def of(cls, difference: Difference) -> "_DifferenceLine":
        return cls(
            difference.user_id,
            difference.kind,
            _Facts(**difference.expected),
            _Facts(**difference.found),
        )
