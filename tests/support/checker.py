"""The judge of every fault test: records, users and retained statuses must tell one story."""

from typing import Any

from mqtt_presence.model import Connection, Status
from mqtt_presence.payloads import decode_object, encode_status
from mqtt_presence.rules import combine
from mqtt_presence.store import Store
from mqtt_presence.store.rows import CONNECTION_COLUMNS, USER_COLUMNS, to_connection, to_presence


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


def assert_consistent(
    database_url: str,
    retained: dict[str, Any],
    versions: dict[str, list[tuple[int, bytes]]] | None = None,
    *,
    private: bool = False,
) -> None:
    """Compare what is kept with what is retained.

    Args:
        database_url: where the bridge keeps its records.
        retained: the retained statuses by user, as a new subscriber gets them.
        versions: what a subscriber heard of every user, in order (`Recorder.versions`).
        private: the setting `publish_private`.

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
        assert _but_last_seen(retained.get(user_id)) == _but_last_seen(expected), user_id
    assert retained.keys() <= users.keys(), f"ghosts: {retained.keys() - users.keys()}"
    for user_id, told in (versions or {}).items():
        _assert_versions_only_grow(user_id, told)


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


def _assert_versions_only_grow(user_id: str, told: list[tuple[int, bytes]]) -> None:
    """What was sent again after a crash repeats what was told; it never tells something else, or goes back."""
    said: dict[int, Any] = {}
    newest = -1
    for version, payload in told:
        status = _but_last_seen(decode_object(payload))
        if version in said:
            assert said[version] == status, f"{user_id}: two statuses of version {version}"
            continue
        assert version > newest, f"{user_id}: version {version} after {newest}"
        said[version] = status
        newest = version


def _but_last_seen(status: Any) -> Any:
    return None if status is None else {k: v for k, v in status.items() if k != "lastSeen"}
