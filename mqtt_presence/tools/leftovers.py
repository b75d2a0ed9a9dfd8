"""Ending what was open when an embedded broker died with all its connections (kill -9, power cut).

Beside a broker of its own the bridge waits for wills and answers; here both died at once, and no will ever
comes. So what is still open when the broker starts is lost: clients that come back say so with a new login.
The setting `grace` covers the time between, for whoever wants no flicker.
"""

import logging

from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.protocol import publications as say
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Connection, End, Event, Reason, UserId
from mqtt_presence.store import Store
from mqtt_presence.store.reader import Reader

log = logging.getLogger(__name__)


def end_leftovers(database: str, store: Store, config: BridgeConfig, now: int) -> None:
    """End all connections that are open, as lost; the bridge publishes it when it starts.

    Args:
        database: the URL of the store's database.
        store: open, with no bridge running on it.
        config: the bridge's.
        now: epoch milliseconds.

    """
    count = 0
    with Reader(database) as reader:
        for page in reader.open_connections():
            _end(page, store, config, now)
            count += sum(map(len, page.values()))
    if count:
        log.warning("connections=%d were open when the broker last died: they end as lost", count)


def _end(page: dict[UserId, list[Connection]], store: Store, config: BridgeConfig, now: int) -> None:
    events: dict[UserId, list[Event]] = {
        user_id: [_lost(record, now) for record in records] for user_id, records in page.items()
    }
    with store.transaction() as tx:
        users = tx.load(events)
        outcomes = [fold(users[user_id], of_user, config.rules) for user_id, of_user in events.items()]
        tx.save(outcomes)
        told = [
            publication
            for outcome in outcomes
            for publication in say.outcome_publications(
                outcome, config.topics, private=config.publish_private
            )
        ]
        if told:
            tx.put_outbox(say.pack(told))


def _lost(record: Connection, now: int) -> End:
    return End(
        user_id=record.user_id,
        client_id=record.client_id,
        connection_id=record.connection_id,
        now=now,
        reason=Reason.LOST,
    )
