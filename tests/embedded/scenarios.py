"""One scenario for each repair: what is seen on a broker, ours or amqtt as shipped.

Each returns what was observed; `SCENARIOS` says what presence needs to see, and what amqtt 0.12.1 shows instead. When a
new amqtt shows the right thing, its counterexample fails and says so: then the repair may go.
"""

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.embedded.brokers import SECRET

WILL = "presence/alice/phone/will"
LOGIN = "presence/alice/phone/login"


def said(messages):
    """Return (last level, payload) of each message."""
    return [(m.topic.rpartition("/")[2], m.payload.decode()) for m in messages]


def keep_alive(house):
    """A client that falls silent."""
    bridge = house.bridge()
    house.client(keep_alive=1, will=(WILL, "w"))
    began = time.monotonic()
    try:
        heard = said([bridge.message(2.5)])
    except TimeoutError:
        return "no will"
    return heard, time.monotonic() - began > 1.4


def takeover_clean(house):
    """The same client id again, clean session."""
    bridge = house.bridge()
    old = house.client(will=(WILL, "old"))
    new = house.client(will=(WILL, "new"))
    new.publish(LOGIN, "")
    return said([*bridge.messages(0.6)]), old.closed(0.3)


def takeover_persistent(house):
    """The same client id again, persistent session."""
    bridge = house.bridge()
    old = house.client(will=(WILL, "old"), clean=False)
    old.subscribe("status/+")
    new = house.wire()
    with contextlib.suppress(TimeoutError, EOFError):
        new.connect("alice", "phone", will=(WILL, "new"), clean=False)
    with contextlib.suppress(OSError):
        new.publish(LOGIN, "")
    return said([*bridge.messages(0.6)]), old.closed(0.3), not new.closed(0.3)


def wrong_password(house):
    """A CONNECT with someone's client id and a wrong password: does the victim stay?"""
    victim = house.client("alice", "phone", clean=False, password="pw-alice")
    victim.subscribe("status/+")
    thief = house.wire()
    code = thief.connect("bridge", "phone", password="wrong", clean=True)
    bridge = house.client("bridge", "b", password=SECRET)
    bridge.publish("status/alice", "x")
    return code != 0, said(victim.messages())


def foreign_will(house):
    """A will on another user's topic."""
    bridge = house.bridge()
    mallory = house.wire()
    code = mallory.connect("mallory", "m", will=(WILL, "forged"))
    mallory.kill()
    return code, said(bridge.messages())


def retained_to_strangers(house):
    """Retained messages and a client that subscribed to nothing."""
    bridge = house.client("bridge", "b", password=SECRET)
    bridge.publish("status/alice", "here", retain=True)
    house.client("bob", "tablet").subscribe("status/+")
    carol = house.client("carol", "c")
    return said(carol.messages())


def lower_qos(house):
    """A QoS 0 message and a QoS 1 subscription."""
    alice = house.client()
    alice.subscribe("status/+", qos=1)
    house.client("bridge", "b", password=SECRET).publish("status/alice", "x", qos=0)
    return alice.message().qos


def redelivery(house):
    """Messages not acknowledged before the connection broke."""
    bridge = house.bridge()
    alice = house.client()
    for number in range(3):
        alice.publish(LOGIN, str(number))
    for _ in range(3):
        bridge.message(ack=False)
    bridge.kill()
    alice.ping()
    again = house.client("bridge", "bridge-4711", clean=False, password=SECRET)
    return [(m.payload.decode(), m.dup) for m in again.messages(0.5)]


def offline_queue(house):
    """Messages for a persistent session whose client is away."""
    alice = house.client("alice", "phone", clean=False)
    alice.subscribe("status/+")
    alice.disconnect()
    house.client("bridge", "b", password=SECRET).publish("status/alice", "x")
    return [(m.payload, m.retain) for m in house.client("alice", "phone", clean=False).messages(0.5)]


def silent_newcomer(house):
    """A connection that never says CONNECT (the connect timeout is 0.5 s in this house)."""
    return house.wire().closed(1.5)


def huge_packet(house):
    """A packet over 256 KiB."""
    bridge = house.bridge()
    alice = house.client()
    with contextlib.suppress(OSError):
        alice.publish(LOGIN, b"x" * 300_000)
    return bool(bridge.messages(0.5)), alice.closed(0.5)


def dollar_topic(house):
    """A publish to `$...`, then an ordinary one."""
    bridge = house.bridge()
    alice = house.client()
    alice.publish("$SYS/x", "evil", qos=0)
    alice.publish(LOGIN, "good", qos=0)
    return said(bridge.messages(0.5))


def shared_subscription(house):
    """A `$share` subscription."""
    return house.client().subscribe("$share/g/status/+")


def version_five(house):
    """A CONNECT of MQTT 5."""
    wire = house.wire()
    from tests.embedded.wire import connect_packet

    wire.send(connect_packet("alice", "phone", level=5))
    try:
        return wire.read(2).body.hex(), wire.closed(1)
    except TimeoutError:
        return "no answer"


def early_acknowledgement(house):
    """Has the publisher its PUBACK while the bridge has not acknowledged?"""
    bridge = house.bridge()
    alice = house.client()
    alice.publish(LOGIN, "")
    message = bridge.message(ack=False)
    early = [p.kind for p in alice.ping()]
    bridge.ack(message)
    return early, alice.until(4).kind if not early else None


def lost_without_will(house):
    """A client that logged in, registered no will, and is gone."""
    bridge = house.bridge()
    alice = house.client()
    alice.publish(LOGIN, '{"connectionId":"c1"}')
    alice.kill()
    return said(bridge.messages(0.5))


def gone_without_logout(house):
    """A client that logged in and sends DISCONNECT without a logout."""
    bridge = house.bridge()
    alice = house.client(will=(WILL, "w"))
    alice.publish(LOGIN, '{"connectionId":"c1"}')
    alice.disconnect()
    return said(bridge.messages(0.5))


def stolen_client_id(house):
    """Another user connects with a live client's id."""
    alice = house.client()
    code = house.wire().connect("mallory", "phone")
    alice.ping()
    return code


def stop_sends_wills(house):
    """The broker is stopped while a client with a will is connected."""
    bridge = house.bridge()
    house.client(will=(WILL, "w"))
    stopper = threading.Thread(target=house.stop)
    stopper.start()
    heard = said(bridge.messages(1))
    stopper.join()
    return heard


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
