"""The final check of fault tests: records, users and retained statuses agree, and agree with the clients."""

from collections import Counter
from typing import Any

from mqtt_presence.protocol.incoming import decode_object
from mqtt_presence.protocol.outgoing import encode_status
from mqtt_presence.rules.model import Connection, Status
from mqtt_presence.rules.status import combine
from mqtt_presence.store import Store
from mqtt_presence.store.rows import CONNECTION_COLUMNS, USER_COLUMNS, to_connection, to_presence
from tests.support.brokers import _Broker
from tests.support.playing import hello, is_of_the_test, settle
from tests.support.postgres import query
from tests.support.recorder import Recorder
from tests.support.said import Client, Here, Said
from tests.support.waiting import until


def read(database_url: str) -> tuple[list[Connection], dict[str, Any]]:
    """Read all records, and all users by name."""
    store = Store(database_url)
    try:
        with store.transaction() as tx:
            records = [
                to_connection(r) for r in tx._select(f"SELECT {CONNECTION_COLUMNS} FROM connections c", [])
            ]
            users = {
                r[0]: to_presence(r, {}, {}) for r in tx._select(f"SELECT {USER_COLUMNS} FROM users u", [])
            }
    finally:
        store.close()
    return records, users


def assert_true(
    broker: _Broker,
    database: str,
    said: Said,
    watched: Recorder,
    *,
    forgetful: bool = False,
    late: bool = False,
    shown: Recorder | None = None,
    deadline_s: float = 20.0,
) -> dict[str, Any]:
    """Wait until all messages are processed, then check as a new subscriber, until success or the deadline.

    Each acknowledged login has exactly one record, exactly the connected clients are open, each status is the
    function of the records and agrees with the clients, and versions only grow.

    Args:
        broker: the broker of the test.
        database: the URL of the bridge's database.
        said: the messages of the clients.
        watched: a subscriber of all statuses from the beginning.
        forgetful: whether the broker lost acknowledged messages: an ended connection may lack its record.
        late: whether publications of one bridge may arrive after newer ones of another bridge. A subscriber
            that drops older versions still sees them grow.
        shown: the subscriber whose last statuses count; None: a new one, which gets the retained ones.
        deadline_s: the time that the bridge may take, seconds.

    Returns:
        The retained statuses by user.

    """
    hello(broker)
    fresh = shown or broker.recorder()
    settle(broker, fresh, "end")
    failures: list[AssertionError] = []

    def is_right() -> bool:
        try:
            assert not _is_confirming(database), "the bridge still waits for answers to its announcement"
            retained = fresh.statuses()
            assert_consistent(database, retained, watched.versions(), late=late)
            _assert_as_said(read(database)[0], retained, said, forgetful=forgetful)
        except AssertionError as failure:
            failures.append(failure)
            return False
        return True

    try:
        until(is_right, "all is true", deadline_s, every_s=0.1)
    except AssertionError:
        raise failures[-1] from None
    return fresh.statuses()


def _is_confirming(database: str) -> bool:
    """Return whether the bridge still waits for answers to an announcement (B3)."""
    sql = """SELECT name FROM bridge WHERE name = 'announced_at'
             AND EXISTS (SELECT 1 FROM connections WHERE announce AND logout_time IS NULL)"""
    return bool(query(database, sql))


def _assert_as_said(
    records: list[Connection], retained: dict[str, Any], said: Said, *, forgetful: bool
) -> None:
    ours = [(Client(r.user_id, r.client_id), r) for r in records if not is_of_the_test(r.user_id)]
    kept = Counter((client, r.connection_id if r.client_named else None) for client, r in ours)
    must = Counter({(c, h.connection): 1 for c, h in said.here.items()}) if forgetful else said.logins
    assert not must - kept, f"no record: {must - kept}"
    more = kept - said.logins - Counter(said.unsure)
    assert not more, f"one record too many: {more}"
    there = {c: Here(r.connection_id if r.client_named else None, r.idle) for c, r in ours if r.is_open}
    wrong = [(c, there.get(c), said.here.get(c)) for c in {*there, *said.here}]
    wrong = [each for each in wrong if each[1] != each[2]]
    records_of = [(r.connection_id, r.client_time, r) for c, r in ours if wrong and c == wrong[0][0]]
    assert not wrong, (
        f"{len(wrong)} are not as they must be (client, its record, what it knows): {wrong[:9]}; "
        f"the records of the first: {sorted(records_of)[-5:]}"
    )
    assert len(there) == sum(r.is_open for _, r in ours), "two records of one client are open"
    for user in said.users & (retained.keys() if forgetful else said.users):
        shown = retained[user]
        assert (shown["state"], shown["connections"]) == said.status_of(user), user


def assert_consistent(
    database_url: str,
    retained: dict[str, Any],
    versions: dict[str, list[tuple[int, bytes, bool]]] | None = None,
    *,
    private: bool = False,
    late: bool = False,
) -> None:
    """Compare the database with the retained statuses.

    Args:
        database_url: the URL of the bridge's database.
        retained: the retained statuses by user, as a new subscriber gets them.
        versions: the versions that a subscriber received of every user, in order (`Recorder.versions`).
        private: the setting `publish_private`.
        late: see `assert_true`.

    """
    records, users = read(database_url)
    by_user: dict[str, list[Connection]] = {}
    for record in records:
        by_user.setdefault(record.user_id, []).append(record)
    for user_id, presence in users.items():
        _assert_status_is_function_of_records(user_id, presence.status, by_user.get(user_id, []))
        expected = decode_object(
            encode_status(
                user_id,
                presence.status,
                version=presence.version,
                last_seen=presence.last_seen,
                private=private,
            )
        )
        shown, must = _but_last_seen(retained.get(user_id)), _but_last_seen(expected)
        published = [told[0] for told in (versions or {}).get(user_id, [])][-9:]
        assert shown == must, (
            f"{user_id}: {shown} is retained, not {must}; versions that were published: {published}"
        )
    assert retained.keys() <= users.keys(), f"ghosts: {retained.keys() - users.keys()}"
    for user_id, told in (versions or {}).items():
        newest = assert_versions_only_grow(user_id, told, late=late)
        assert users[user_id].version >= newest, (
            f"{user_id}: version {newest} was published and is not in the database"
        )


def _assert_status_is_function_of_records(user_id: str, status: Status, records: list[Connection]) -> None:
    live = [r for r in records if r.is_live]
    anew = combine(live, Status(), 0)
    assert (status.state, status.connections) == (anew.state, anew.connections), (user_id, status, live)
    assert combine(live, status, -1) == status, (user_id, status, live)
    logins = [r for r in records if r.login_order is not None]
    if logins:
        newest = max(r.login_order for r in logins if r.login_order is not None)
        assert status.last_login is not None, user_id
        assert status.last_login.order == newest, user_id


def assert_versions_only_grow(
    user_id: str, told: list[tuple[int, bytes, bool]], *, late: bool = False
) -> int:
    """Check that publications after a crash repeat the last status, without a change or an older version.

    Only a broker that was killed may return to an older retained status.
    """
    said: dict[int, Any] = {}
    newest = -1
    for version, payload, is_retained in told:
        status = _but_last_seen(decode_object(payload))
        assert version >= newest or is_retained or late, f"{user_id}: version {version} after {newest}"
        assert said.setdefault(version, status) == status, f"{user_id}: two statuses of version {version}"
        newest = max(newest, version)
    return newest


def _but_last_seen(status: Any) -> Any:
    return None if status is None else {k: v for k, v in status.items() if k != "lastSeen"}
