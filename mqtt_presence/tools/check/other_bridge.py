"""Detection of another bridge on the checked broker, so that its queue is not filled."""

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol.client_messages import BridgeStateName, decode_bridge_state
from mqtt_presence.tools.check.findings import OtherBridge
from mqtt_presence.tools.check.prober import Prober

REASONS = {
    OtherBridge.AT_WORK: "a bridge is at work here; if messages are dropped, it asks all clients to log in",
    OtherBridge.AWAY: "a bridge uses this broker and is away; "
    "these messages could push real ones out of its queue",
    OtherBridge.NONE: None,
    OtherBridge.UNKNOWN: "a bridge may use this broker, whose queue would be filled too: "
    "the users given may not read bridge/",
}
"""Reasons against filling the broker's queues."""


def find_other_bridge(prober: Prober) -> OtherBridge:
    """Return the state of another bridge; only the first call asks the broker.

    Raises:
        BrokerError: the broker cannot be asked.

    """
    if prober.other_bridge is None:
        prober.other_bridge = _find(prober)
    return prober.other_bridge


def _find(prober: Prober) -> OtherBridge:
    """Read `bridge/state` as both users, since either may lack the right.

    A broker may grant a subscription and deliver nothing. So a control message goes to a topic beside the
    state: a reader of that message would have read the state too. A refusal may end a connection, so the
    readers are connections of their own.
    """
    state, beside = prober.topics.bridge_state, prober.names.bridge_topic
    readers = [prober.connections.client(), prober.connections.bridge()]
    for reader in readers:
        for topic in (state, beside):
            prober.subscribe(reader, topic)
    control, writer = prober.names.unique_payload(), prober.connections.bridge()
    writer.publish(beside, control)
    can_read = prober.loop.until(
        lambda: any(reader.inbox.with_payload(control) for reader in readers), prober.long_wait_s
    )
    prober.loop.until(lambda: any(reader.inbox.on_topic(state) for reader in readers), prober.quiet_s)
    for client in (*readers, writer):
        client.disconnect()
    states = [
        message.payload for reader in readers for message in reader.inbox.on_topic(state) if message.payload
    ]
    if states:
        return OtherBridge.AT_WORK if any(map(_may_be_online, states)) else OtherBridge.AWAY
    return OtherBridge.NONE if can_read else OtherBridge.UNKNOWN


def _may_be_online(payload: bytes) -> bool:
    try:
        return decode_bridge_state(payload).state is BridgeStateName.ONLINE
    except PayloadError:
        return True  # an unreadable state may be that of a bridge at work
