"""The end of a session: a connection with a clean session makes the broker forget all that it kept."""

import logging

from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.link.node_connections import CleanConnection, NodeAnswer
from mqtt_presence.mqtt.tls_files import TlsFiles

log = logging.getLogger(__name__)


def end_session(config: LinkConfig) -> bool:
    """End the session of a client id (MQTT 3.1.1 §3.1.2.4); return whether a node has confirmed it.

    Args:
        config: the nodes, the certificates and the client id, whose connection is closed.

    """
    is_tls = config.nodes[0].tls
    tls = TlsFiles(config.ca_file, config.cert_file, config.key_file) if is_tls else None
    for node in config.nodes:
        connection = CleanConnection(node, tls, config.client_id)
        answer = connection.open()
        if answer is NodeAnswer.UP:
            connection.close()
            return True
        log.warning("%s does not end the session: %s", node, answer.name.lower())
    return False
