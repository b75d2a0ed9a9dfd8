"""``mqtt-presence notify``: the receivers of notifications: list, test, failures, replay."""

from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from mqtt_presence.bridge.notifications.next_request import count_pending
from mqtt_presence.bridge.notifications.steady_clock import STEPS
from mqtt_presence.cli import logs
from mqtt_presence.cli.bridge_config import notifications
from mqtt_presence.cli.output import Cell, print_error, print_line, print_table
from mqtt_presence.cli.setting_options import FAILED, with_settings
from mqtt_presence.errors import ConfigError
from mqtt_presence.integrations.notifications.notification import Notification, Queued
from mqtt_presence.integrations.notifications.receivers import Receiver
from mqtt_presence.integrations.notifications.sending import Delivered
from mqtt_presence.protocol.times import to_iso, wall_clock
from mqtt_presence.settings import Settings, parse_time
from mqtt_presence.store import Store
from mqtt_presence.store.notification_reader import NotificationReader
from mqtt_presence.store.notification_tables import ReceiverState

_SHOWN_FAILURES = 1000


@with_settings("database", "prefix", "notify_keep", "notify_private")
def command(
    settings: Settings,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="list | test NAME | failed NAME | replay NAME",
            help="list: the receivers and their queues. test: send a test at once. failed: the notifications "
            "that were given up. replay: send again what was queued since a time.",
            show_default=False,
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="For replay: a duration (2h) or a time (2026-11-30T08:00:00Z).", metavar="TIME"
        ),
    ] = None,
) -> None:
    """List, test and repair the receivers of notifications.

    The receivers are the tables [[notify]] of the settings file: give --config as to the bridge. The bridge
    may run meanwhile, and notices a replay within seconds.

    Exit codes: 0 done; 1 the test failed, or the database cannot be used; 2 a setting or an argument is
    wrong.
    """
    logs.errors_only()
    action, *names = words
    if (action, len(names)) not in {("list", 0), ("test", 1), ("failed", 1), ("replay", 1)}:
        raise ConfigError("notify: there are list, test NAME, failed NAME and replay NAME --since TIME")
    if (since is not None) != (action == "replay"):
        raise ConfigError("--since: replay needs it, and only replay")
    receivers = notifications(settings).receivers
    if action == "list":
        _list(settings, receivers)
        return
    receiver = next((receiver for receiver in receivers if receiver.name == names[0]), None)
    if receiver is None:
        raise ConfigError(f"notify {action} {names[0]}: there is no such [[notify]] in the settings file")
    if since is not None:
        _replay(settings, receiver, parse_time("--since", since, wall_clock()))
        return
    run: Callable[[Settings, Receiver], None] = _test if action == "test" else _failed
    run(settings, receiver)


def _list(settings: Settings, receivers: Sequence[Receiver]) -> None:
    rows = []
    with NotificationReader(settings.database) as reader, reader.tables() as tables:
        for receiver in receivers:
            state = tables.receiver(receiver.name)
            counts: tuple[object, ...] = ("-", "-", "-", "-")
            if state is not None:
                pending, _ = count_pending(tables, receiver, state)
                counts = (pending, state.delivered, state.failed, state.dropped)
            rows.append((receiver.name, receiver.kind, *counts, _condition(state)))
    columns = ("NAME", "KIND", "PENDING", "DELIVERED", "FAILED", "DROPPED", "STATE")
    print_table(columns, (tuple(map(Cell, row)) for row in rows))


def _condition(state: ReceiverState | None) -> str:
    if state is None:
        return "new: begins at the next start of the bridge"
    if state.disabled:
        return f"disabled ({state.reason}); replay enables it"
    return "ok" if state.reason is None else f"failing ({state.reason}), {state.attempts} attempts"


def _test(settings: Settings, receiver: Receiver) -> None:
    now = wall_clock()
    test = Queued(f"test-{now}", Notification("test", receiver.users, b'{"test":true}', now))
    answer = notifications(settings).make_sending(receiver).send([test])
    if not isinstance(answer, Delivered):
        print_error(f"{receiver.name}: the test failed: {answer.reason}")
        raise typer.Exit(FAILED)
    print_line(f"{receiver.name}: delivered ({answer.answer})")


def _failed(settings: Settings, receiver: Receiver) -> None:
    with NotificationReader(settings.database) as reader, reader.tables() as tables:
        failures = tables.failures(receiver.name, _SHOWN_FAILURES)
    if not failures:
        print_line(f"{receiver.name}: no notification was given up.")
        return
    print_table(
        ("TIME", "ID", "USER", "EVENT", "ATTEMPTS", "REASON"),
        (tuple(map(Cell, (to_iso(failure.at), *failure[1:]))) for failure in failures),
    )


def _replay(settings: Settings, receiver: Receiver, since: int) -> None:
    with NotificationReader(settings.database) as reader, reader.tables() as tables:
        is_known = tables.receiver(receiver.name) is not None
    if not is_known:
        raise ConfigError(f"notify replay {receiver.name}: the bridge has not run with this receiver yet")
    store = Store(settings.database)
    try:
        with store.transaction() as tx:
            tx.replay(receiver.name, since - int(tx.read_value(STEPS) or 0))
    finally:
        store.close()
    print_line(f"{receiver.name}: everything since {to_iso(since)} is sent again, under the same ids.")
