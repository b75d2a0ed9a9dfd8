"""Leftovers: connections that were open when the embedded broker and its bridge died (kill -9, power cut).

With a separate broker, the bridge waits for wills and logins. Here both died at once, so no will follows. An
open connection is therefore lost when the broker starts, and clients that reconnect send a new login. The
setting `grace` bridges the time until then, for operators who want no short offline status. A device that
has announced its sleep was not connected: its record stays until its deadline.
"""

import logging

from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.bridge.notifications.recorder import NotificationRecorder
from mqtt_presence.protocol import publications
from mqtt_presence.rules.events import End, Event
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Connection, Reason, Rule, UserId
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader

log = logging.getLogger(__name__)


def end_leftovers(
    database: str,
    store: Store,
    config: BridgeConfig,
    now: int,
    recorder: NotificationRecorder | None = None,
) -> None:
    """End all open connections as lost; the bridge publishes the statuses when it starts.

    Args:
        database: the URL of the store's database.
        store: open, with no bridge running on it.
        config: of the bridge.
        now: epoch milliseconds.
        recorder: queues the notifications of the ends; None: there are no receivers.

    """
    count = 0
    if recorder is not None:
        with store.transaction() as tx:
            recorder.restore(tx)
    with Reader(database) as reader:
        for page in reader.open_connections():
            awake = {user_id: [r for r in records if not _is_asleep(r)] for user_id, records in page.items()}
            _end(awake, store, config, now, recorder)
            count += sum(map(len, awake.values()))
    if count:
        log.warning("connections=%d were open when the broker died: they end as lost", count)


def _end(
    page: dict[UserId, list[Connection]],
    store: Store,
    config: BridgeConfig,
    now: int,
    recorder: NotificationRecorder | None,
) -> None:
    events: dict[UserId, list[Event]] = {
        user_id: [_lost(record, now) for record in records] for user_id, records in page.items()
    }
    with store.transaction() as tx:
        users = tx.load(events)
        outcomes = [fold(users[user_id], of_user, config.rules) for user_id, of_user in events.items()]
        tx.save(outcomes)
        due = [
            publication
            for outcome in outcomes
            for publication in publications.outcome_publications(
                outcome, config.topics, private=config.publish_private
            )
        ]
        if recorder is not None:
            due += recorder.record(tx, outcomes)[0]  # the senders start later, and so need no call
        if due:
            tx.put_outbox(publications.pack(due))


def _is_asleep(record: Connection) -> bool:
    is_of_device = (record.origin or "").startswith("profile:")
    return is_of_device and record.idle is True and record.timeout_ms is not None


def _lost(record: Connection, now: int) -> End:
    return End(
        user_id=record.user_id,
        client_id=record.client_id,
        connection_id=record.connection_id,
        now=now,
        reason=Reason.LOST,
        rule=Rule.G1,  # its network connection has ended with the broker
    )
