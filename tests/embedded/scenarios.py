"""Scenarios: the observed behaviour of a broker, the embedded one or plain amqtt.

Each scenario returns its observation. `SCENARIOS` has the result that presence needs, and the result of amqtt 0.12.1.
When a new amqtt passes a scenario, its counterexample fails and names the repair that may go.
"""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.embedded.brokers import SECRET

WILL = "presence/alice/phone/will"
LOGIN = "presence/alice/phone/login"


def verbs_and_payloads(messages):
    """Return (last level, payload) of each message."""
    return [(m.topic.rpartition("/")[2], m.payload.decode()) for m in messages]


def keep_alive(server):
    """A client that sends no further packet."""
    bridge = server.bridge()
    server.client(keep_alive=1, will=(WILL, "w"))
    began = time.monotonic()
    try:
        received = verbs_and_payloads([bridge.message(2.5)])
    except TimeoutError:
        return "no will"
    return received, time.monotonic() - began > 1.4


def takeover_clean(server):
    """The same client id again, clean session."""
    bridge = server.bridge()
    old = server.client(will=(WILL, "old"))
    new = server.client(will=(WILL, "new"))
    new.publish(LOGIN, "")
    return verbs_and_payloads([*bridge.messages(0.6)]), old.closed(0.3)


def takeover_persistent(server):
    """The same client id again, persistent session."""
    bridge = server.bridge()
    old = server.client(will=(WILL, "old"), clean=False)
    old.subscribe("status/+")
    new = server.raw_client()
    with contextlib.suppress(TimeoutError, EOFError):
        new.connect("alice", "phone", will=(WILL, "new"), clean=False)
    with contextlib.suppress(OSError):
        new.publish(LOGIN, "")
    return verbs_and_payloads([*bridge.messages(0.6)]), old.closed(0.3), not new.closed(0.3)


def wrong_password(server):
    """A CONNECT with another client's id and a wrong password."""
    victim = server.client("alice", "phone", clean=False, password="pw-alice")
    victim.subscribe("status/+")
    thief = server.raw_client()
    code = thief.connect("bridge", "phone", password="wrong", clean=True)
    bridge = server.client("bridge", "b", password=SECRET)
    bridge.publish("status/alice", "x")
    return code != 0, verbs_and_payloads(victim.messages())


def foreign_will(server):
    """A will on another user's topic."""
    bridge = server.bridge()
    mallory = server.raw_client()
    code = mallory.connect("mallory", "m", will=(WILL, "forged"))
    mallory.kill()
    return code, verbs_and_payloads(bridge.messages())


def retained_to_strangers(server):
    """Retained messages and a client that subscribed to nothing."""
    bridge = server.client("bridge", "b", password=SECRET)
    bridge.publish("status/alice", "here", retain=True)
    server.client("bob", "tablet").subscribe("status/+")
    carol = server.client("carol", "c")
    return verbs_and_payloads(carol.messages())


def lower_qos(server):
    """A QoS 0 message and a QoS 1 subscription."""
    alice = server.client()
    alice.subscribe("status/+", qos=1)
    server.client("bridge", "b", password=SECRET).publish("status/alice", "x", qos=0)
    return alice.message().qos


def redelivery(server):
    """Messages that were not acknowledged before the connection was lost."""
    bridge = server.bridge()
    alice = server.client()
    for number in range(3):
        alice.publish(LOGIN, str(number))
    for _ in range(3):
        bridge.message(ack=False)
    bridge.kill()
    alice.ping()
    again = server.client("bridge", "bridge-4711", clean=False, password=SECRET)
    return [(m.payload.decode(), m.dup) for m in again.messages(0.5)]


def offline_queue(server):
    """Messages for the persistent session of an absent client."""
    alice = server.client("alice", "phone", clean=False)
    alice.subscribe("status/+")
    alice.disconnect()
    server.client("bridge", "b", password=SECRET).publish("status/alice", "x")
    return [(m.payload, m.retain) for m in server.client("alice", "phone", clean=False).messages(0.5)]


def silent_newcomer(server):
    """A connection without a CONNECT (the connect timeout is 0.5 s in this scenario)."""
    return server.raw_client().closed(1.5)


def huge_packet(server):
    """A packet over 256 KiB."""
    bridge = server.bridge()
    alice = server.client()
    with contextlib.suppress(OSError):
        alice.publish(LOGIN, b"x" * 300_000)
    return bool(bridge.messages(0.5)), alice.closed(0.5)


def dollar_topic(server):
    """A message to `$...`, then an ordinary one."""
    bridge = server.bridge()
    alice = server.client()
    alice.publish("$SYS/x", "evil", qos=0)
    alice.publish(LOGIN, "good", qos=0)
    return verbs_and_payloads(bridge.messages(0.5))


def shared_subscription(server):
    """A `$share` subscription."""
    return server.client().subscribe("$share/g/status/+")


def version_five(server):
    """A CONNECT of MQTT 5."""
    raw_client = server.raw_client()
    from tests.embedded.raw_client import connect_packet

    raw_client.send(connect_packet("alice", "phone", level=5))
    try:
        return raw_client.read(2).body.hex(), raw_client.closed(1)
    except TimeoutError:
        return "no answer"


def early_acknowledgement(server):
    """The publisher's PUBACK while the bridge has not acknowledged."""
    bridge = server.bridge()
    alice = server.client()
    alice.publish(LOGIN, "")
    message = bridge.message(ack=False)
    early = [p.kind for p in alice.ping()]
    bridge.ack(message)
    return early, alice.until(4).kind if not early else None


def lost_without_will(server):
    """A client with a login and without a will that is lost."""
    bridge = server.bridge()
    alice = server.client()
    alice.publish(LOGIN, '{"connectionId":"c1"}')
    alice.kill()
    return verbs_and_payloads(bridge.messages(0.5))


def gone_without_logout(server):
    """A client with a login that sends a DISCONNECT without a logout."""
    bridge = server.bridge()
    alice = server.client(will=(WILL, "w"))
    alice.publish(LOGIN, '{"connectionId":"c1"}')
    alice.disconnect()
    return verbs_and_payloads(bridge.messages(0.5))


def stolen_client_id(server):
    """Another user's CONNECT with the id of a connected client."""
    alice = server.client()
    code = server.raw_client().connect("mallory", "phone")
    alice.ping()
    return code


def stop_sends_wills(server):
    """The broker is stopped while a client with a will is connected."""
    bridge = server.bridge()
    server.client(will=(WILL, "w"))
    stopper = threading.Thread(target=server.stop)
    stopper.start()
    received = verbs_and_payloads(bridge.messages(1))
    stopper.join()
    return received


@dataclass(frozen=True)
class Scenario:
    run: Any
    needed: Any
    shipped: Any
    settings: dict[str, Any] = field(default_factory=dict)
    plugins: Any = None

    def __str__(self):
        return self.run.__name__


FILE_AUTH = "file"
ACL = {
    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": False},
    "amqtt.plugins.topic_checking.TopicAccessControlListPlugin": {
        "publish_acl": {"mallory": ["presence/mallory/#"], "bridge": ["#"]},
        "acl": {"mallory": ["status/+"], "bridge": ["presence/#"]},
    },
}
SCENARIOS = [
    Scenario(keep_alive, ([("will", "w")], True), "no will"),
    Scenario(takeover_clean, ([("will", "old"), ("login", "")], True), ([("login", "")], False)),
    Scenario(takeover_persistent, ([("will", "old"), ("login", "")], True, True), None),
    Scenario(wrong_password, (True, [("alice", "x")]), (True, []), plugins=FILE_AUTH),
    Scenario(foreign_will, (5, []), (0, [("will", "forged")]), plugins=ACL),
    Scenario(retained_to_strangers, [], [("alice", "here")]),
    Scenario(lower_qos, 0, 1),
    Scenario(redelivery, [("0", True), ("1", True), ("2", True)], []),
    Scenario(offline_queue, [(b"x", False)], None),
    Scenario(silent_newcomer, True, False, settings={"connect_timeout_s": 0.5}),
    Scenario(huge_packet, (False, True), (True, False)),
    Scenario(dollar_topic, [("login", "good")], []),
    Scenario(shared_subscription, [0x80], [1]),
    Scenario(version_five, ("008400", True), "no answer"),
    Scenario(early_acknowledgement, ([], 4), ([4], None)),
    Scenario(
        lost_without_will, [("login", '{"connectionId":"c1"}'), ("will", '{"connectionId":"c1"}')], None
    ),
    Scenario(
        gone_without_logout, [("login", '{"connectionId":"c1"}'), ("logout", '{"connectionId":"c1"}')], None
    ),
    Scenario(stolen_client_id, 2, 0),
    Scenario(stop_sends_wills, [("will", "w")], []),
]
