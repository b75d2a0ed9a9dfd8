"""The views: the documented ones (docs/protocol.md, "The database"), and the one that the bridge reads.

The migrations hold frozen copies, and a test compares the two.
"""

RECENT_VIEW = """\
CREATE VIEW recent_connections AS
SELECT r.id, r.user_id, r.client_id, r.connection_id, r.ip_addr, r.user_agent, r.login_time,
       p.last_seen, p.idle, p.last_activity, r.logout_time, r.reason, r.meta, r.cause,
       r.named, r.login_order, r.opened_at, r.idle_threshold_ms, r.timeout_ms, r.announce,
       p.heartbeats, p.reports, r.check_at, r.live, r.peer, r.told, r.client_time, r.origin,
       r.opened_by, r.ended_by, r.corrected_by, r.corrected_at,
       r.unconfirmed_since
FROM connection_records r JOIN pulses p ON p.id = r.id"""
"""The records in `connection_records`, the few of all that the bridge reads."""

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
"""The documented table of connections: all of them.

On PostgreSQL a condition on keys reaches an index only if each part of the union has a single table, so that
`pulses` is not joined. `{never}` is a constant for `live`, by which PostgreSQL leaves out the history.
"""

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
"""The documented table of users, with its columns in the order of `UserRow`."""

VIEWS = {"recent_connections": RECENT_VIEW, "connections": CONNECTIONS_VIEW, "users": USERS_VIEW}
"""The views by name; a view comes after the views that it reads."""
