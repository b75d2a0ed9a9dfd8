"""Version 21: old ended records move to a table of their own, with partitions by month on PostgreSQL."""

from typing import Any

import peewee
from peewee import BigIntegerField, BooleanField, IntegerField, Model, TextField


class HistoryRow(Model):
    id = BigIntegerField()
    user_id = TextField()
    client_id = TextField()
    connection_id = TextField()
    client_named = BooleanField(column_name="named")
    login_time = BigIntegerField(null=True)
    login_order = BigIntegerField(null=True)
    opened_at = BigIntegerField(null=True)
    ip_addr = TextField(null=True)
    user_agent = TextField(null=True)
    idle_threshold_ms = BigIntegerField(null=True)
    timeout_ms = BigIntegerField(null=True)
    announce = BooleanField()
    meta = TextField(null=True)
    logout_time = BigIntegerField()
    reason = TextField(null=True)
    check_at = BigIntegerField(null=True)
    cause = TextField(null=True)
    network_id = BigIntegerField(null=True, column_name="peer")
    ended_by_broker = BooleanField(null=True, column_name="told")
    client_time = BigIntegerField(null=True)
    origin = TextField(null=True)
    opened_by = IntegerField(null=True)
    ended_by = IntegerField(null=True)
    corrected_by = IntegerField(null=True)
    corrected_at = BigIntegerField(null=True)
    unconfirmed_since = BigIntegerField(null=True)
    last_seen = BigIntegerField()
    heartbeats = BooleanField()
    reports = BooleanField()
    idle = BooleanField(null=True)
    last_activity = BigIntegerField(null=True)

    class Meta:
        table_name = "connection_history"
        primary_key = False


RECENT_VIEW = """\
CREATE VIEW recent_connections AS
SELECT r.id, r.user_id, r.client_id, r.connection_id, r.ip_addr, r.user_agent, r.login_time,
       p.last_seen, p.idle, p.last_activity, r.logout_time, r.reason, r.meta, r.cause,
       r.named, r.login_order, r.opened_at, r.idle_threshold_ms, r.timeout_ms, r.announce,
       p.heartbeats, p.reports, r.check_at, r.live, r.peer, r.told, r.client_time, r.origin,
       r.opened_by, r.ended_by, r.corrected_by, r.corrected_at,
       r.unconfirmed_since
FROM connection_records r JOIN pulses p ON p.id = r.id"""
CONNECTIONS_VIEW = """\
CREATE VIEW connections AS
SELECT r.id, r.user_id, r.client_id, r.connection_id, r.ip_addr, r.user_agent, r.login_time,
       (SELECT p.last_seen FROM pulses p WHERE p.id = r.id) AS last_seen,
       (SELECT p.idle FROM pulses p WHERE p.id = r.id) AS idle,
       (SELECT p.last_activity FROM pulses p WHERE p.id = r.id) AS last_activity,
       r.logout_time, r.reason, r.meta, r.cause,
       r.named, r.login_order, r.opened_at, r.idle_threshold_ms, r.timeout_ms, r.announce,
       (SELECT p.heartbeats FROM pulses p WHERE p.id = r.id) AS heartbeats,
       (SELECT p.reports FROM pulses p WHERE p.id = r.id) AS reports,
       r.check_at, r.live, r.peer, r.told, r.client_time, r.origin,
       r.opened_by, r.ended_by, r.corrected_by, r.corrected_at,
       r.unconfirmed_since
FROM connection_records r
UNION ALL
SELECT h.id, h.user_id, h.client_id, h.connection_id, h.ip_addr, h.user_agent, h.login_time,
       h.last_seen, h.idle, h.last_activity, h.logout_time, h.reason, h.meta, h.cause,
       h.named, h.login_order, h.opened_at, h.idle_threshold_ms, h.timeout_ms, h.announce,
       h.heartbeats, h.reports, h.check_at, {never}, h.peer, h.told, h.client_time, h.origin,
       h.opened_by, h.ended_by, h.corrected_by, h.corrected_at,
       h.unconfirmed_since
FROM connection_history h"""
USERS_VIEW = """\
CREATE VIEW users AS
SELECT s.user_id, s.state, s.online, s.idle, s.since, s.connections,
       s.last_login, s.last_login_order, s.last_login_ip_addr, s.last_login_user_agent, s.last_activity,
       COALESCE(
           (SELECT MAX(p.last_seen) FROM connection_records r JOIN pulses p ON p.id = r.id
            WHERE r.live AND r.user_id = s.user_id AND p.last_seen > s.last_seen),
           s.last_seen) AS last_seen,
       s.version
FROM user_states s"""
VIEWS = (RECENT_VIEW, CONNECTIONS_VIEW, USERS_VIEW)


def up(migrator: Any, db: Any) -> None:
    """Create the table, empty, and the views; the bridge moves the records later, in small steps."""
    del migrator
    is_postgresql = isinstance(db, peewee.PostgresqlDatabase)
    HistoryRow.bind(db)
    if is_postgresql:
        HistoryRow._meta.table_settings = "PARTITION BY RANGE (logout_time)"
    HistoryRow.create_table(safe=False)
    # For timelines and `forget`; for `retention` and the pages of all users.
    db.execute_sql(
        "CREATE INDEX history_of_user ON connection_history (user_id, login_time, id, logout_time)"
    )
    db.execute_sql("CREATE INDEX history_ended ON connection_history (logout_time, id, login_time)")
    if is_postgresql:
        # Views that are replaced keep the rights that were granted on them.
        for view in VIEWS:
            db.execute_sql(view.replace("CREATE VIEW", "CREATE OR REPLACE VIEW").format(never="FALSE"))
        return
    db.execute_sql("DROP VIEW users")
    db.execute_sql("DROP VIEW connections")
    for view in VIEWS:
        # SQLite seeks in both parts only if their columns have the same types.
        db.execute_sql(view.format(never="CAST(0 AS INTEGER)"))
