"""Version 6: a table of the columns that signs of life change, and `connections` as a view of both."""

from typing import Any

from peewee import BigIntegerField, BooleanField, Model

ACTIVITY = ("last_seen", "heartbeats", "reports", "idle", "last_activity")
CONNECTIONS_VIEW = """\
CREATE VIEW connections AS
SELECT r.id, r.user_id, r.client_id, r.connection_id, r.ip_addr, r.user_agent, r.login_time,
       p.last_seen, p.idle, p.last_activity, r.logout_time, r.reason, r.meta, r.cause,
       r.named, r.login_order, r.opened_at, r.idle_threshold_ms, r.timeout_ms, r.announce,
       p.heartbeats, p.reports, r.check_at, r.live, r.peer, r.told
FROM connection_records r JOIN pulses p ON p.id = r.id"""
USERS_VIEW = """\
CREATE VIEW users AS
SELECT s.user_id, s.state, s.online, s.idle, s.since, s.connections,
       s.last_login, s.last_login_order, s.last_login_ip_addr, s.last_login_user_agent, s.last_activity,
       COALESCE(
           (SELECT MAX(c.last_seen) FROM connections c
            WHERE c.live AND c.user_id = s.user_id AND c.last_seen > s.last_seen),
           s.last_seen) AS last_seen,
       s.version
FROM user_states s"""


class PulseRow(Model):
    id = BigIntegerField(primary_key=True)
    last_seen = BigIntegerField()
    heartbeats = BooleanField()
    reports = BooleanField()
    idle = BooleanField(null=True)
    last_activity = BigIntegerField(null=True)

    class Meta:
        table_name = "pulses"


def up(migrator: Any, db: Any) -> None:
    """Move the columns, and give the name to the view."""
    db.execute_sql("DROP VIEW users")  # it reads the moved columns
    PulseRow.bind(db)
    PulseRow.create_table()
    columns = ", ".join(("id", *ACTIVITY))
    db.execute_sql(f"INSERT INTO pulses ({columns}) SELECT {columns} FROM connections")
    migrator.migrate(
        migrator.rename_table("connections", "connection_records"),
        *(migrator.drop_column("connection_records", column) for column in ACTIVITY),
    )
    db.execute_sql(CONNECTIONS_VIEW)
    db.execute_sql(USERS_VIEW)
