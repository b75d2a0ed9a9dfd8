"""Version 9: a table of the messages that the broker may deliver again, one row for each batch."""

import json
from typing import Any

import msgspec
from peewee import BigIntegerField, BlobField, Model


class RedeliveryRow(Model):
    number = BigIntegerField(primary_key=True)
    body = BlobField()

    class Meta:
        table_name = "redeliveries"


def up(_migrator: Any, db: Any) -> None:
    """Create the table, and move the known messages into one row."""
    RedeliveryRow.bind(db)
    RedeliveryRow.create_table()
    for (text,) in db.execute_sql("SELECT value FROM bridge WHERE name = 'redeliveries'").fetchall():
        _, known = json.loads(text)
        ids = {packet_id: checksum for packet_id, (checksum, _) in known}
        RedeliveryRow.insert(number=1, body=msgspec.msgpack.encode((len(ids), (), ids))).execute()
    db.execute_sql("DELETE FROM bridge WHERE name = 'redeliveries' OR SUBSTR(name, 1, 13) = 'source_lines '")
