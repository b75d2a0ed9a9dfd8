"""The probe of the database: what a message survives that the bridge has committed and acknowledged."""

from mqtt_presence.errors import ConfigError, StoreError
from mqtt_presence.store.database import MissingFileError
from mqtt_presence.store.durability import Durability, UnreadableError, read_durability
from mqtt_presence.tools.check.findings import Finding, failed, note, passed, warned
from mqtt_presence.tools.check.prober import Prober

_NAME = "database"
_PATIENCE_S = 5.0
_LOST = "an acknowledged login or end can be missing afterwards: its client does not send it again"
_REMEDIES = {
    "synchronous_commit": "set synchronous_commit = on for the server, the database and the bridge's user",
    "fsync": "set fsync = on",
    "full_page_writes": "set full_page_writes = on",
    "synchronous_standby_names": "name the standby in synchronous_standby_names (Patroni: synchronous_mode), "
    "and let only such a standby take over",
}
_MORE = "docs/scale.md, PostgreSQL"


def database(prober: Prober) -> Finding:
    """Does the database keep what the bridge has acknowledged?"""
    return look_at(prober.config.database)


def look_at(url: str | None) -> Finding:
    """Connect to a database, read its settings, and judge them; None: no database is given."""
    if url is None:
        return note(_NAME, "not tried: no database is given", remedy="give the bridge's --database")
    try:
        return judge_database(read_durability(url, _PATIENCE_S))
    except MissingFileError as error:
        return note(_NAME, str(error), "unless the path is wrong, the bridge makes it at its first start")
    except UnreadableError as error:
        return warned(
            _NAME,
            str(error),
            "it may lose acknowledged messages, and the bridge cannot warn of it either",
            "let the user of the bridge read pg_stat_replication and pg_replication_slots",
        )
    except (ConfigError, StoreError) as error:
        return failed(
            _NAME,
            str(error),
            "the bridge cannot commit, so it acknowledges no message",
            "compare the URL's host, port, user, password and name with the database, and start it",
        )


def judge_database(found: Durability) -> Finding:
    """Judge the settings of a database."""
    if found.is_read_only:
        return failed(
            _NAME,
            f"{found.database}: it takes no commits",
            "the bridge cannot commit, so it acknowledges no message",
            "give the URL of the primary, or all servers and target_session_attrs=read-write: docs/scale.md",
        )
    if found.risks:
        remedies = [_REMEDIES[setting] for setting in _REMEDIES if _is_reason(setting, found)]
        return failed(
            _NAME, f"{found.database}; {'; '.join(found.risks)}", _LOST, f"{'; '.join(remedies)}: {_MORE}"
        )
    if found.waits_for_nobody:
        return failed(
            _NAME,
            f"{found.database}: each commit waits for a synchronous standby, and none follows",
            "the bridge cannot commit, so it acknowledges no message",
            f"start the standby, or clear synchronous_standby_names: {_MORE}",
        )
    return passed(_NAME, f"{found.database}: a commit survives {found.survives}")


def _is_reason(setting: str, found: Durability) -> bool:
    return any(risk.split()[0] == setting for risk in found.risks)
