"""Reference (a): a paho 3.1.1 subscriber with `loop_start` and automatic acknowledgements; it only counts."""

import signal
import sys

import paho.mqtt.client as mqtt

count = 0


def on_message(client: mqtt.Client, _data: object, message: mqtt.MQTTMessage) -> None:
    """Count; and say when the last message has come."""
    global count  # noqa: PLW0603
    count += 1
    if message.topic.startswith("presence/sentinel"):
        client.publish("status/" + message.topic.split("/")[1], b"{}", 1, retain=True)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bare", clean_session=False)
client.on_message = on_message
client.connect("127.0.0.1", int(sys.argv[1]))
client.subscribe("presence/+/+/+", 1)
client.loop_start()
signal.sigwait([signal.SIGTERM])
client.disconnect()
