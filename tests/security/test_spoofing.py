"""Who speaks for whom: what a client that is let in can make the bridge believe, and make it say."""

import json
import queue
import re
from collections.abc import Iterator

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.bridges import BridgeThread
from tests.support.brokers import Embedded, Mosquitto
from tests.support.playing import settle
from tests.support.postgres import query
from tests.support.recorder import Recorder

AnyBroker = Mosquitto | Embedded

BRIDGE_SAYS = re.compile(
    r"status/[^/]+|events/[^/]+/[a-zA-Z]+|bridge/(state|announce|health)|reply/[^/]+/[^/]+/time"
)


@pytest.fixture
def bridge(broker: AnyBroker, database: str) -> Iterator[BridgeThread]:
    """Run a bridge on each broker and each database."""
    with BridgeThread(broker=broker.url, database=database) as running:
        yield running


def test_same_id_of_another_client_is_another_connection(broker: AnyBroker, bridge: BridgeThread) -> None:
    """A stolen connection id is worth nothing from another client, not even one of the same user."""
    recorder = broker.recorder()
    stolen = b'{"connectionId": "stolen"}'
    broker.say("alice", "phone", "login", stolen)
    recorder.wait_for_state("alice", "online")
    for verb in ("will", "logout", "activity", "will"):
        broker.say("alice", "tablet", verb, stolen)
        broker.say("mallory", "laptop", verb, stolen)
    settle(broker, recorder)
    ended = [event["clientId"] for name, event in recorder.events("alice") if name == "connectionLogout"]
    assert "phone" not in ended
    assert recorder.status("alice")["connections"] == 1


def test_payload_names_nobody(broker: AnyBroker, bridge: BridgeThread) -> None:
    """Whatever a payload says of users, clients, topics and addresses: the topic decides who it is."""
    recorder = broker.recorder()
    claims = {
        "userId": "alice", "clientId": "phone", "user": "alice", "client": "phone", "ipAddr": "192.0.2.1",
        "topic": "status/alice", "responseTopic": "status/alice", "state": "offline", "loginTime": 1,
    }  # fmt: skip
    for verb in ("login", "activity", "will"):
        broker.say("mallory", "laptop", verb, json.dumps(claims | {"connectionId": "m1"}).encode())
    settle(broker, recorder)
    login = dict(recorder.events("mallory"))["connectionLogin"]
    assert (login["userId"], login["clientId"], "192.0.2.1" in str(login)) == ("mallory", "laptop", False)
    assert recorder.status("alice") is None
    assert recorder.events("alice") == []


@pytest.mark.parametrize("wanted", ["status/alice", "bridge/announce", "presence/alice/phone/will"])
def test_response_topic_is_ignored(mosquitto: Mosquitto, sqlite_url: str, wanted: str) -> None:
    """The bridge may write what the asking client may not: it answers on the asking client's own topic alone."""
    asked = Recorder(mosquitto.port, ("bridge/announce",), user="all")
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        asked.wait_for(lambda: asked.on("bridge/announce"))  # the bridge's own, which is none of ours
        asked.close()
        everything = Recorder(mosquitto.port, ("#",), user="all")
        answers: queue.SimpleQueue[mqtt.MQTTMessage] = queue.SimpleQueue()
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="laptop", protocol=mqtt.MQTTv5)
        client.on_message = lambda _client, _data, message: answers.put(message)
        client.on_connect = lambda *_: client.subscribe("reply/mallory/laptop/+")
        properties = Properties(PacketTypes.PUBLISH)
        properties.ResponseTopic = wanted
        properties.CorrelationData = b"x"
        client.on_subscribe = lambda *_: client.publish(
            "presence/mallory/laptop/time", b'{"t0": 1}', 1, properties=properties
        )
        client.connect("127.0.0.1", mosquitto.port)
        client.loop_start()
        try:
            answer = answers.get(timeout=20)
        finally:
            client.disconnect()
            client.loop_stop()
        assert answer.topic == "reply/mallory/laptop/time"
        assert getattr(answer.properties, "CorrelationData", None) is None
        everything.wait_for(lambda: everything.on("reply/mallory/laptop/time"))
        assert everything.on(wanted) == []
        everything.close()


def test_bridge_says_nothing_but_its_own_topics(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """Names that look like topics, filters, SQL or markup come to no other topic than the table's."""
    names = ("$SYS", "$share", "..", "%2F", "'; DROP TABLE users; --", "\u202eecila", "<b>", "status", " ")
    with BridgeThread(broker=mosquitto.url, database=sqlite_url, publish_private=True):
        everything = Recorder(mosquitto.port, ("#",), user="all")
        for name in names:
            for verb in ("login", "activity", "time", "will"):
                mosquitto.say(
                    name, name, verb, json.dumps({"userAgent": name} if verb == "login" else {}).encode()
                )
        everything.wait_for(lambda: (everything.status(" ") or {}).get("state") == "offline")
        said = {m.topic for m in everything.heard if not m.topic.startswith("presence/")}
        everything.close()
    assert all(BRIDGE_SAYS.fullmatch(topic) for topic in said), said
    assert {topic.split("/")[1] for topic in said if topic.startswith("status/")} == set(names)


def test_names_are_values_to_the_database(broker: AnyBroker, bridge: BridgeThread, database: str) -> None:
    """What looks like SQL is kept as a name, by SQLite and PostgreSQL, and nothing else happens."""
    recorder = broker.recorder()
    names = (
        "'; DROP TABLE users; --",
        'x" OR 1=1',
        "\\'; --",
        "%s %(x)s ? :1 $1",
        "x'||(SELECT version())||'",
    )
    for number, name in enumerate(names):
        login = json.dumps({"connectionId": name, "userAgent": name, "meta": {name: name}}).encode()
        broker.say(name, f"{name} {number}", "login", login)
    for name in names:
        recorder.wait_for(lambda name=name: recorder.status(name), name)
    kept = query(database, "SELECT user_id, connection_id, user_agent, meta FROM connections")
    assert {(k["user_id"], k["connection_id"], k["user_agent"]) for k in kept} == {(n, n, n) for n in names}
    assert [json.loads(k["meta"]) for k in kept] == [{k["user_id"]: k["user_id"]} for k in kept]


def test_client_time_cannot_win_over_the_future(broker: AnyBroker, bridge: BridgeThread) -> None:
    """A login from the year 9998 does not make every later login of the client an old one."""
    recorder = broker.recorder()
    broker.say("alice", "phone", "login", b'{"connectionId": "c1", "time": "9998-01-01T00:00:00Z"}')
    recorder.wait_for_state("alice", "online")
    broker.say("alice", "phone", "login", b'{"connectionId": "c2"}')
    settle(broker, recorder)
    assert [
        (e["connectionId"], e["reason"]) for n, e in recorder.events("alice") if n == "connectionLogout"
    ] == [("c1", "superseded")]
