"""Probes of the broker's own reports: dropped messages, restarts, addresses, and its store."""

from collections.abc import Collection

from mqtt_presence.tools.check.findings import Finding, note, passed
from mqtt_presence.tools.check.prober import Prober

DROPPED_TOPIC = "$SYS/broker/publish/messages/dropped"
UPTIME_TOPIC = "$SYS/broker/uptime"
LOG_TOPIC = "$SYS/broker/log/N"


def drops(prober: Prober) -> Finding:
    """Does the bridge learn when the broker drops messages, or is restarted?"""
    reader = prober.connections.bridge()
    for topic in (DROPPED_TOPIC, UPTIME_TOPIC):
        reader.subscribe(topic)
    prober.loop.until(lambda: reader.inbox.on_topic(UPTIME_TOPIC), prober.long_wait_s)
    topics = {message.topic for message in reader.inbox.messages}
    reader.disconnect()
    return judge_drops(topics)


def judge_drops(topics: Collection[str]) -> Finding:
    """Judge the broker's reports about itself.

    mosquitto retains the number of dropped messages for a minute after each change, and its uptime always.
    So the uptime decides: the verdict on a broker does not depend on recent drops.

    Args:
        topics: the topics with a message.

    """
    name = "drops"
    if UPTIME_TOPIC not in topics:
        return note(
            name,
            f"{UPTIME_TOPIC} is silent: mosquitto publishes it, to users who may read it",
            "if the broker drops messages that it has acknowledged, or is killed, the bridge may not notice",
        )
    return passed(name, f"{UPTIME_TOPIC} can be read: the bridge follows it, and {DROPPED_TOPIC}")


def addresses(prober: Prober) -> Finding:
    """Does the bridge learn from where clients come?"""
    name = "addresses"
    reader = prober.connections.bridge()
    prober.subscribe(reader, LOG_TOPIC)
    client = prober.connections.client()
    client_id = client.client_id.encode()
    is_logged = prober.loop.until(
        lambda: any(client_id in message.payload for message in reader.inbox.messages), prober.long_wait_s
    )
    client.disconnect()
    reader.disconnect()
    if is_logged:
        return passed(name, f"{LOG_TOPIC} has the address of each client that connects")
    return note(name, f"{LOG_TOPIC} has no addresses of clients", "records may have no ipAddr")


def persistence(_prober: Prober) -> Finding:
    """Does the broker's store survive a restart?"""
    return note(
        "persistence",
        "a check from outside cannot find out",
        "a broker without a store on disk loses the messages for the bridge, and all statuses, when it ends",
    )
