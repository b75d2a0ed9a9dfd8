"""Version 19: since when a connection is unconfirmed because reports of the broker were lost."""

from typing import Any

from peewee import BigIntegerField

CONNECTIONS_VIEW = """\
CREATE VIEW connections AS
SELECT r.id, r.user_id, r.client_id, r.connection_id, r.ip_addr, r.user_agent, r.login_time,
       p.last_seen, p.idle, p.last_activity, r.logout_time, r.reason, r.meta, r.cause,
       r.named, r.login_order, r.opened_at, r.idle_threshold_ms, r.timeout_ms, r.announce,
       p.heartbeats, p.reports, r.check_at, r.live, r.peer, r.told, r.client_time, r.origin,
       r.opened_by, r.ended_by, r.corrected_by, r.corrected_at,
       r.unconfirmed_since
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


def up(migrator: Any, db: Any) -> None:
    """Add the column, and show it in the view."""
    db.execute_sql("DROP VIEW users")  # it reads the other one
    db.execute_sql("DROP VIEW connections")
    column = BigIntegerField(null=True)
    migrator.migrate(migrator.add_column("connection_records", "unconfirmed_since", column))
    db.execute_sql(CONNECTIONS_VIEW)
    db.execute_sql(USERS_VIEW)
