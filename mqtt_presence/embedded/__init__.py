"""The embedded broker: MQTT 3.1.1 for presence on one machine, in this process.

Imports `access`, `protocol`, `mqtt` and `errors`. amqtt starts and stops the listeners
(`embedded.listeners`); the handling of connections is the package's own. amqtt uses a task for each packet
and queues between the tasks, which loses the order of messages and acknowledges them too early for presence.
Here each network connection has one reader, which handles packets in their order, each of them completely.
Connections take turns (`embedded.fair_turns`). ``tests/embedded/test_counterexamples.py`` shows each scenario
failing on plain amqtt.
"""

from mqtt_presence.access.passwords import add_user, remove_user
from mqtt_presence.embedded.broker import EmbeddedBroker
from mqtt_presence.embedded.config import EmbeddedConfig
from mqtt_presence.embedded.transports import Transport

__all__ = ["EmbeddedBroker", "EmbeddedConfig", "Transport", "add_user", "remove_user"]
