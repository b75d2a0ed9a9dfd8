"""The arguments of the clients, their encoding in messages, and errors that name them."""

import pytest

from mqtt_presence.client import PresenceClient, StatusWatcher
from mqtt_presence.errors import ConfigError
from mqtt_presence.protocol import client_messages, topics
from mqtt_presence.protocol.incoming import parse
from mqtt_presence.protocol.outgoing import encode_time_reply
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules.events import Activity, End, Login

URL = "mqtt://alice:secret@127.0.0.1"


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"user": "a/b"}, "user"),
        ({"user": ""}, "user"),
        ({"client_id": "a+b"}, "client_id"),
        ({"client_id": ""}, "client_id"),
        ({"prefix": "#/"}, "prefix"),
        ({"keep_alive": 0}, "keep_alive"),
        ({"keep_alive": 70000}, "keep_alive"),
        ({"idle_threshold": -1}, "idle_threshold"),
        ({"timeout": 0}, "timeout"),
        ({"meta": {"x": "y" * 3000}}, "meta"),
        ({"meta": {"x": object()}}, "meta"),
        ({"user_agent": "x" * 9000}, "user_agent"),
        ({"ca_file": "/nowhere"}, "ca_file"),
        ({"reconnect_min": 0}, "reconnect_min"),
        ({"reconnect_min": 9, "reconnect_max": 1}, "reconnect_max"),
    ],
)
def test_wrong_argument_is_named(options, names):
    """The error names the argument before anything is connected, and does not show the password."""
    with pytest.raises(ConfigError, match=names) as caught:
        PresenceClient(URL, **options)
    assert "secret" not in str(caught.value)


def test_tls_files_are_checked():
    """Files that cannot be read are named on construction, not in a thread."""
    for options in ({"ca_file": "/nowhere"}, {"cert_file": "/nowhere"}, {"key_file": "/nowhere"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            StatusWatcher("mqtts://host", **options)


def test_presence_needs_a_user_and_a_watcher_does_not():
    """A presence client needs a user name; a watcher works without one."""
    with pytest.raises(ConfigError, match="user is not set"):
        PresenceClient("mqtt://127.0.0.1")
    with pytest.raises(ConfigError, match="password"):
        StatusWatcher("mqtt://127.0.0.1", password="x")
    StatusWatcher("mqtt://127.0.0.1")
    assert PresenceClient("mqtt://127.0.0.1", user="bob").user == "bob"
    assert PresenceClient(URL).user == "alice"
    assert PresenceClient(URL, user="bob").user == "bob"


def test_client_id_is_random_and_short():
    """The default id is accepted by every broker, and different each time."""
    first, second = (PresenceClient(URL).client_id for _ in range(2))
    assert first != second
    assert len(first) <= 23
    assert first.isalnum()


def test_nothing_happens_before_connect():
    """Before `connect`, a client is not connected, a heartbeat returns False, and disconnecting has no effect."""
    client = PresenceClient(URL)
    assert not client.connected
    assert client.connection_id is None
    assert not client.bridge_connected
    assert client.heartbeat() is False
    assert client.disconnect() is False
    watcher = StatusWatcher(URL)
    watcher.close()
    assert dict(watcher) == {}
    assert "alice" not in watcher


def read(verb, payload):
    return parse(Topics().parse_input(f"presence/alice/phone/{verb}"), payload, now=9_999_999_999_999)


def test_bridge_reads_what_clients_write():
    """The bridge reads every field that the client writes."""
    meta = client_messages.encode_meta({"room": 7})
    login = read(
        topics.LOGIN,
        client_messages.encode_login(
            "c1", time=5, user_agent="ua", idle_threshold=1.5, timeout=90, announce=True, meta=meta
        ),
    )
    assert isinstance(login, Login)
    assert (login.connection_id, login.time, login.user_agent) == ("c1", 5, "ua")
    assert (login.idle_threshold_ms, login.timeout_ms, login.announce, login.meta) == (
        1500,
        90_000,
        True,
        '{"room":7}',
    )
    bare = read(topics.LOGIN, client_messages.encode_login("c1"))
    assert (bare.time, bare.user_agent, bare.idle_threshold_ms, bare.announce, bare.meta) == (
        None,
        None,
        None,
        False,
        None,
    )
    report = read(topics.ACTIVITY, client_messages.encode_activity("c1", idle=False, last_activity=7))
    assert isinstance(report, Activity)
    assert (report.connection_id, report.idle, report.last_activity) == ("c1", False, 7)
    heartbeat = read(topics.ACTIVITY, client_messages.encode_activity("c1"))
    assert (heartbeat.idle, heartbeat.last_activity) == (None, None)
    for verb in (topics.LOGOUT, topics.WILL):
        end = read(verb, client_messages.encode_end("c1"))
        assert isinstance(end, End)
        assert end.connection_id == "c1"
    reply = client_messages.decode_time_reply(
        encode_time_reply(read(topics.TIME, client_messages.encode_time_request(123_456_789)), 10**13)
    )
    assert (reply.t0, reply.t1, reply.t2) == (123_456_789, 9_999_999_999_999, 10**13)
