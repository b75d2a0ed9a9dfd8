"""The embedded broker: MQTT 3.1.1 fit for presence on one machine.

amqtt brings the listeners and their life cycle. What happens on a connection is our own: amqtt's flows (a
task for every packet, queues between them) lose the order and the acknowledgements that presence lives on,
so one reader for each connection handles packets as they came, each one synchronously. Connections take turns
(`connection.TURN_S`), and a SUBSCRIBE or UNSUBSCRIBE may take several.
``tests/embedded/test_counterexamples.py`` shows each scenario failing on plain amqtt.
"""

from mqtt_presence.access.passwords import add_user, remove_user
from mqtt_presence.embedded.broker import EmbeddedBroker
from mqtt_presence.embedded.config import EmbeddedConfig
from mqtt_presence.embedded.transports import Transport

__all__ = ["EmbeddedBroker", "EmbeddedConfig", "Transport", "add_user", "remove_user"]
