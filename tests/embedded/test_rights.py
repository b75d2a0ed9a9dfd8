"""Rights to publish and to read, as a function and through the broker."""

import pytest

from mqtt_presence.access.rights import rights_of
from mqtt_presence.mqtt.topic_filters import is_filter, matches, overlaps
from mqtt_presence.protocol.topics import Topics
from tests.embedded.brokers import SECRET, embedded_server
from tests.embedded.raw_client import connect_packet


@pytest.fixture(scope="module")
def server():
    with embedded_server(operators=frozenset({"carol"})) as running:
        yield running


@pytest.mark.parametrize("verb", ["login", "activity", "logout", "will", "time"])
@pytest.mark.parametrize("prefix", ["", "acme/", "a/b/"])
def test_a_client_may_publish_to_its_own_topics(prefix, verb):
    """The topics are those of its user and client id, with each verb."""
    assert rights_of(Topics(prefix), "alice", "phone").may_publish(
        f"{prefix}presence/alice/phone/{verb}".split("/")
    )


@pytest.mark.parametrize("topic", [
    "presence/bob/phone/login", "presence/alice/tablet/login", "presence/alice/phone/other", "presence/alice/phone",
    "presence/alice/phone/login/x", "status/alice", "events/alice/userOnline", "bridge/state",
    "reply/alice/phone/time", "acme/presence/alice/phone/login", "$SYS/x", "presence/alice/phone/",
])  # fmt: skip
def test_a_client_may_publish_to_no_other_topic(topic):
    """Similar topics are forbidden too."""
    assert not rights_of(Topics(), "alice", "phone").may_publish(topic.split("/"))


def test_the_bridge_may_publish_to_its_topics_only():
    """The bridge publishes on status, events, bridge and reply, and not on presence."""
    bridge = rights_of(Topics(), "bridge", "b", bridge=True)
    for topic in ("status/alice", "events/alice/userOnline", "bridge/state", "reply/alice/phone/time"):
        assert bridge.may_publish(topic.split("/"))
    assert not bridge.may_publish(["presence", "bridge", "b", "login"])


@pytest.mark.parametrize(("topic_filter", "user", "operator", "bridge"), [
    ("status/+", True, True, True),
    ("status/#", True, True, True),
    ("status/alice", True, True, True),
    ("bridge/+", True, True, True),
    ("bridge/#", True, True, True),
    ("reply/alice/phone/+", True, False, False),
    ("reply/bob/phone/+", False, False, False),
    ("events/+/+", False, True, True),
    ("events/#", False, True, True),
    ("events/alice/+", False, True, True),
    ("presence/#", False, False, True),
    ("presence/+/+/+", False, False, True),
    ("status/alice/x", False, False, False),
    ("#", True, True, True),
    ("$SYS/#", False, False, True),
    ("$SYS/presence/clients", False, False, True),
    ("$SYS/broker/+", False, False, False),
    ("$share/g/status/+", False, False, False),
])  # fmt: skip
def test_subscription_rights(topic_filter, user, operator, bridge):
    """A filter is granted if it can match a topic that the client may read."""
    levels = topic_filter.split("/")
    assert rights_of(Topics(), "alice", "phone").may_subscribe(levels) is user
    assert rights_of(Topics(), "carol", "pc", operator=True).may_subscribe(levels) is operator
    assert rights_of(Topics(), "bridge", "b", bridge=True).may_subscribe(levels) is bridge


@pytest.mark.parametrize(("pattern", "topic", "yes"), [
    ("a/+", "a/b", True), ("a/+", "a", False), ("a/#", "a", True), ("a/#", "a/b/c", True), ("#", "a", True),
    ("+/b", "a/b", True), ("a/b", "a/b/c", False), ("a/b/c", "a/b", False), ("+", "", True),
])  # fmt: skip
def test_filters_match_as_the_specification_says(pattern, topic, yes):
    """The cases follow MQTT 3.1.1 §4.7."""
    assert matches(pattern.split("/"), topic.split("/")) is yes


@pytest.mark.parametrize(("one", "other", "yes"), [
    ("a/+", "a/#", True), ("a/#", "a", True), ("a/+/c", "a/b/+", True), ("a/b", "a/c", False),
    ("a/+", "a/b/c", False), ("+/b/#", "a/b", True), ("a", "a/b", False),
])  # fmt: skip
def test_filters_overlap_if_both_match_some_topic(one, other, yes):
    """The relation is symmetric."""
    assert overlaps(one.split("/"), other.split("/")) is yes
    assert overlaps(other.split("/"), one.split("/")) is yes


def test_validity_of_filters():
    """Wildcards have their places (MQTT 3.1.1 §4.7.1)."""
    assert all(map(is_filter, ["a", "#", "+", "a/+/b", "a/#", "/"]))
    assert not any(map(is_filter, ["", "a#", "a/#/b", "a+", "+a/b"]))


@pytest.mark.parametrize("user", ["", "a/b", "a+b", "a#b", "a\tb", "x" * 129, None])
def test_a_bad_user_name_is_refused_at_connect(server, user):
    """The answer is CONNACK 4 for a missing name, and for one that does not fit into a topic."""
    raw_client = server.raw_client()
    assert raw_client.connect(user, "phone") == 4
    assert raw_client.closed(1)


@pytest.mark.parametrize("client_id", ["a/b", "a+b", "#", "a\rb", "x" * 129])
def test_a_bad_client_id_is_refused_at_connect(server, client_id):
    """The answer is CONNACK 2 for a client id that does not fit into a topic."""
    assert server.raw_client().connect("alice", client_id) == 2


def test_the_broker_chooses_a_client_id_for_an_empty_one(server):
    """With a clean session the broker chooses one; without, the answer is CONNACK 2."""
    assert server.raw_client().connect("alice", "") == 0
    assert server.raw_client().connect("alice", "") == 0
    assert server.raw_client().connect("alice", "", clean=False) == 2


def test_a_forbidden_message_is_acknowledged_and_dropped(server):
    """The client stays connected (MQTT 3.1.1 §3.3.5), and its next message is delivered."""
    bridge = server.bridge("presence/#", "status/#", "events/#", client_id="denied", clean=True)
    mallory = server.client("mallory", "m1")
    for topic in (
        "presence/alice/phone/login",
        "status/alice",
        "events/alice/userOnline",
        "bridge/state",
        "x",
    ):
        mallory.publish(topic, "forged", retain=True)
        assert mallory.until(4)
    mallory.publish("presence/mallory/m1/login", "mine")
    assert bridge.message().payload == b"mine"


def test_subscriptions_deliver_readable_messages_only(server):
    """A user's `#` delivers readable topics only; an operator gets events too."""
    bridge = server.client("bridge", "writer", password=SECRET)
    alice, carol = server.client("alice", "phone"), server.client("carol", "pc")
    assert alice.subscribe("#") == [1]
    assert alice.subscribe("presence/#", "events/#", "reply/bob/tv/+") == [0x80] * 3
    assert carol.subscribe("events/#") == [1]
    topics = [
        "reply/bob/tv/time",
        "events/alice/userOnline",
        "reply/alice/phone/time",
        "status/bob",
        "bridge/state",
    ]
    for topic in topics:
        bridge.publish(topic, "x", qos=0)
    bridge.ping()
    assert [m.topic for m in alice.ping() if m.kind == 3] == topics[2:]
    assert [m.topic for m in carol.ping() if m.kind == 3] == topics[1:2]


def test_retained_messages_are_delivered_once_at_the_lower_qos(server):
    """They have the retain flag; forbidden ones are left out, and an empty payload deletes one."""
    bridge = server.client("bridge", "keeper", password=SECRET)
    bridge.publish("status/retained", "here", retain=True)
    bridge.publish("reply/bob/tv/time", "secret", retain=True)
    bridge.publish("status/forgotten", "x", retain=True)
    bridge.publish("status/forgotten", "", retain=True)
    bridge.ping()
    alice = server.client("alice", "reader")
    alice.subscribe("status/#", qos=0)
    assert [(m.topic, m.qos, m.retain) for m in alice.messages()] == [("status/retained", 0, True)]
    alice.subscribe("#", qos=1)
    assert [(m.topic, m.qos) for m in alice.messages()] == [("status/retained", 1)]


def test_a_client_cannot_leave_a_retained_message_on_an_input_topic(server):
    """The message is delivered to the current bridge and not kept for the next one."""
    bridge = server.bridge(client_id="first", clean=True)
    server.client("alice", "phone").publish("presence/alice/phone/login", "x", retain=True)
    assert bridge.message().payload == b"x"
    bridge.disconnect()
    assert server.bridge(client_id="second", clean=True).messages() == []


def test_the_prefix_stands_before_every_topic():
    """With a prefix the rights hold under the prefix only."""
    with embedded_server(prefix="acme/") as server:
        bridge = server.bridge("acme/presence/+/+/+")
        alice = server.client()
        alice.publish("presence/alice/phone/login", "no")
        alice.publish("acme/presence/alice/phone/login", "yes")
        assert bridge.message().payload == b"yes"
        assert alice.subscribe("status/+", "acme/status/+") == [0x80, 1]


@pytest.mark.parametrize("packet", [
    b"\x10\x00", b"\x30\x00", b"\x10\xff\xff\xff\xff\x01", b"\x00\x00", b"\xf0\x00",
    connect_packet("alice", "p").replace(b"MQTT", b"HTTP"), b"GET / HTTP/1.1\r\n\r\n" + b" " * 80,
    connect_packet("alice", "p") + b"\x32\x05\x00\x01a\x00\x00", connect_packet("alice", "p") + b"\x30\x04\x00\x02a+",
    connect_packet("alice", "p") + b"\x36\x05\x00\x01a\x00\x01", connect_packet("alice", "p") + b"\x30\x03\x00\x01\xff",
    connect_packet("alice", "p") * 2, connect_packet("alice", "p") + b"\x80\x00",
])  # fmt: skip
def test_malformed_packets_close_their_connection_only(server, packet):
    """Other clients stay connected."""
    other = server.client("bob", "steady")
    raw_client = server.raw_client()
    raw_client.send(packet)
    assert raw_client.closed(2)
    other.ping()


@pytest.mark.parametrize(
    ("topic", "bridge", "user"),
    [
        ("homeassistant/device/presence_a_1/config", True, False),
        ("homeassistant/device/config", False, False),
        ("homeassistant/sensor/a/config", False, False),
        ("homeassistant/status", False, True),
    ],
)
def test_rights_for_home_assistant(topic: str, bridge: bool, user: bool) -> None:
    """Only the bridge describes devices; Home Assistant, under any name, reads all and writes its own state."""
    levels = topic.split("/")
    of_bridge = rights_of(Topics("acme"), "bridge", "b", bridge=True, discovery_prefix="homeassistant")
    of_user = rights_of(Topics("acme"), "hass", "h", discovery_prefix="homeassistant")
    assert of_bridge.may_publish(levels) is bridge
    assert of_user.may_publish(levels) is user
    assert of_user.may_read(levels)
    without = rights_of(Topics("acme"), "hass", "h")
    assert not without.may_publish(levels)
    assert not without.may_subscribe(levels)
