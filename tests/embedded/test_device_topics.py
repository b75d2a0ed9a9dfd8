"""Topics of device profiles on the embedded broker: every client may publish to them, and the bridge reads them."""

import pytest

from mqtt_presence.access.rights import DeviceTopics, rights_of
from mqtt_presence.adapters.devices.device_adapter import DeviceAdapter
from mqtt_presence.adapters.devices.profile_files import load_profile, shipped_names
from mqtt_presence.embedded import retained_search
from mqtt_presence.protocol.topics import Topics
from tests.embedded.brokers import SECRET, embedded_server

LWT = "tele/lamp/LWT"


def profiles(*names: str) -> DeviceAdapter:
    return DeviceAdapter([load_profile(name, {}, Topics()) for name in names])


@pytest.fixture
def server():
    with embedded_server(profiles=profiles("tasmota", "esphome", "generic")) as running:
        yield running


def test_wide_filters_give_no_right_to_the_protocols_own_topics():
    """`+/status` and `+/+/+/availability` match topics of the protocol; its own rights decide on those."""
    every = [name for name in shipped_names() if name != "espurna"]
    for prefix in ("", "acme/"):
        topics = Topics(prefix)
        rights = rights_of(topics, "alice", "phone", devices=DeviceTopics(topics, profiles(*every)))
        for topic in (
            "status/status", "bridge/status", "bridge/availability", "reply/bob/phone/availability",
            "events/bob/availability", "presence/bob/phone/availability", "status/availability", "presence/status",
        ):  # fmt: skip
            assert not rights.may_publish(f"{prefix}{topic}".split("/")), topic
        for topic in (LWT, "porch/status", "a/b/availability", "$SYS/broker/connection/cabin/state"):
            assert rights.may_publish(topic.split("/")), topic
        for topic in ("tele/lamp/RESULT", "cmnd/lamp/POWER", "zigbee2mqtt/status", "$SYS/broker/uptime"):
            assert not rights.may_publish(topic.split("/")), topic


def test_only_the_bridge_reads_them(server):
    """A client's subscription is denied, and a wide one that is granted delivers none of them."""
    alice, lamp = server.client(), server.client("lamp", "DVES_AABB01")
    assert alice.subscribe("tele/+/LWT", "#") == [0x80, 1]
    bridge = server.client("bridge", "bridge-4711", clean=False, password=SECRET)
    assert bridge.subscribe("tele/+/LWT") == [1]
    lamp.publish(LWT, "Online", retain=True)
    assert bridge.message().payload == b"Online"
    assert alice.messages() == []


def test_an_acknowledgement_waits_for_the_bridge_that_subscribed(server):
    """As for clients' messages; without a bridge, or at QoS 0, there is nothing to wait for."""
    lamp = server.client("lamp", "DVES_AABB01")
    first = lamp.publish(LWT, "Online", retain=True)
    assert lamp.until(4).packet_id == first
    bridge = server.client("bridge", "bridge-4711", clean=False, password=SECRET)
    bridge.subscribe("tele/+/LWT")
    retained = bridge.message()
    assert (retained.payload, retained.retain) == (b"Online", True)
    bridge.subscribe("tele/+/STATE", qos=0)
    second = lamp.publish("tele/lamp/STATE", "{}")
    assert lamp.until(4).packet_id == second
    assert bridge.message().payload == b"{}"
    third = lamp.publish(LWT, "Online", retain=True)
    held = bridge.message(ack=False)
    assert (held.payload, held.retain) == (b"Online", False)
    assert [packet for packet in lamp.ping() if packet.kind == 4] == []
    bridge.ack(held)
    assert lamp.until(4).packet_id == third


def test_wills_are_published_and_retained(server):
    """A will on such a topic is accepted; it is what a later bridge finds. An empty payload clears it."""
    lamp = server.client("lamp", "DVES_AABB01", will=(LWT, "Offline", 1, True))
    lamp.publish(LWT, "Online", retain=True)
    lamp.until(4)
    lamp.kill()
    bridge = server.bridge("tele/+/LWT")
    assert bridge.message().payload == b"Offline"
    server.client("lamp", "DVES_AABB01").publish(LWT, "", retain=True)
    assert bridge.message().payload == b""
    bridge.subscribe("tele/+/LWT")
    assert bridge.messages() == []


def test_retained_messages_of_devices_are_bounded(server, monkeypatch, caplog):
    """Beyond the limits one is not kept, and the one before it on that topic is out of date; the log has it."""
    monkeypatch.setattr(retained_search, "DEVICES_LIMIT", 3)
    monkeypatch.setattr(retained_search, "DEVICES_BYTES_LIMIT", 1000)
    lamp = server.client("lamp", "DVES_AABB01")
    for number in range(5):
        lamp.publish(f"tele/lamp{number}/LWT", "Online", retain=True)
    lamp.publish("tele/lamp0/LWT", "x" * 990, retain=True)
    lamp.publish("tele/lamp1/LWT", "", retain=True)
    lamp.publish("tele/lamp4/LWT", "Offline", retain=True)
    lamp.ping()
    found = [(m.topic, m.payload) for m in server.bridge("tele/+/LWT").messages()]
    assert sorted(found) == [("tele/lamp2/LWT", b"Online"), ("tele/lamp4/LWT", b"Offline")]
    assert "too many retained messages of devices" in caplog.text
