"""Version 2: user states in a table, and `users` as a view with the latest `last_seen`."""

from typing import Any

from peewee import BigIntegerField, BooleanField, IntegerField, Model, SqliteDatabase, TextField

COLUMNS = (
    "user_id, state, online, idle, since, connections, last_login, last_login_order, last_login_ip_addr, "
    "last_login_user_agent, last_activity, last_seen, version"
)
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
    """Move the rows, and give the name to the view."""
    del migrator

    class UserRow(Model):
        user_id = TextField(primary_key=True)
        state = TextField()
        online = BooleanField()
        idle = BooleanField(null=True)
        since = BigIntegerField(null=True)
        connections = IntegerField()
        last_login = BigIntegerField(null=True)
        last_login_order = BigIntegerField(null=True)
        last_login_ip_addr = TextField(null=True)
        last_login_user_agent = TextField(null=True)
        last_activity = BigIntegerField(null=True)
        last_seen = BigIntegerField(null=True)
        version = BigIntegerField()

        class Meta:
            database = db
            table_name = "user_states"
            # WITHOUT ROWID: one search for a row instead of two. PostgreSQL has no such option.
            without_rowid = isinstance(db, SqliteDatabase)

    UserRow.create_table()
    db.execute_sql(f"INSERT INTO user_states ({COLUMNS}) SELECT {COLUMNS} FROM users")
    db.execute_sql("DROP TABLE users")
    db.execute_sql(USERS_VIEW)
