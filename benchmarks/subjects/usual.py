"""Reference (b), the usual script: `json.loads`, peewee `get_or_create` and `save`, retained publish."""

import json
import signal
import sys
import time

import paho.mqtt.client as mqtt
from peewee import BooleanField, CharField, FloatField, Model, SqliteDatabase

database = SqliteDatabase(f"{sys.argv[2]}/usual.db", pragmas={"journal_mode": "wal"}, check_same_thread=False)


class Presence(Model):
    """A connection, as such scripts keep it."""

    user = CharField(index=True)
    client = CharField()
    connection = CharField(default="")
    online = BooleanField(default=False)
    idle = BooleanField(default=False)
    seen = FloatField(default=0)

    class Meta:
        """Where, and what is unique."""

        database = database
        indexes = ((("user", "client"), True),)


def on_message(client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
    """Do all of it for each message."""
    _, user, device, verb = message.topic.split("/")
    payload = json.loads(message.payload or b"{}")
    row, _ = Presence.get_or_create(user=user, client=device)
    before = (row.online, row.idle)
    row.connection = payload.get("connectionId", "")
    row.seen = time.time()
    row.online = verb not in {"logout", "will"}
    row.idle = payload.get("idle", row.idle)
    row.save()
    if (row.online, row.idle) != before:
        state = {"userId": user, "online": row.online, "idle": row.idle}
        client.publish(f"status/{user}", json.dumps(state), 1, retain=True)


database.create_tables([Presence])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="usual", clean_session=False)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.subscribe("presence/+/+/+", 1)
client.loop_start()
signal.sigwait([signal.SIGTERM])
client.disconnect()
