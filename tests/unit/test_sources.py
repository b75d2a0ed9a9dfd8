"""What brokers say of their connections, and that nobody can speak through it for anybody else."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mqtt_presence.adapters.brokers.json_events import EmqxEvents, NanomqEvents
from mqtt_presence.adapters.brokers.mosquitto import ERRORS, NOTICES, VERSION, MosquittoLog
from mqtt_presence.adapters.port import ENDPOINT, Connected, Ended, plain_address
from mqtt_presence.protocol.topics import is_name
from mqtt_presence.rules.model import Cause

Said = Connected | Ended | None


def mosquitto(version: str | None) -> MosquittoLog:
    source = MosquittoLog()
    if version is not None:
        assert source.read(VERSION, f"mosquitto version {version}".encode()) is None
    return source


def summary(said: Said) -> tuple[Any, ...] | None:
    match said:
        case Connected():
            return ("+", said.user_id, said.client_id, said.address)
        case Ended():
            return ("-", said.client_id, said.cause)
    return None


# mosquitto, as recorded.

RECORDED_2_0 = [
    (NOTICES, "1795613633: New connection from 127.0.0.1:33891 on port 38647.", None),
    (
        NOTICES,
        "1795613633: New client connected from 127.0.0.1:33891 as al1 (p2, c1, k60, u'alice').",
        ("+", "alice", "al1", "127.0.0.1"),
    ),
    (
        NOTICES,
        "1795613632: New client connected from ::ffff:127.0.0.1:46861 as ws 1 (p5, c0, k5, u'alice').",
        ("+", "alice", "ws 1", "127.0.0.1"),
    ),
    (
        NOTICES,
        "1795613632: New client connected from 127.0.0.1:46861 as nobody (p2, c1, k60).",
        ("+", None, "nobody", "127.0.0.1"),
    ),
    (
        NOTICES,
        "1795613632: New client connected from 127.0.0.1:46861 as a (p2, c1, k60) (p2, c1, k60).",
        None,
    ),
    (
        NOTICES,
        "1795613632: New client connected from 127.0.0.1:46861 as a (p2, c1, k60, u'b (p2, c1, k60).",
        None,
    ),
    (NOTICES, "1795613634: Client al1 disconnected.", ("-", "al1", Cause.DISCONNECT)),
    (NOTICES, "1795613634: Client al2 closed its connection.", ("-", "al2", Cause.CLOSED)),
    (
        NOTICES,
        "1795613649: Client al3 has exceeded timeout, disconnecting.",
        ("-", "al3", Cause.KEEP_ALIVE),
    ),
    (
        NOTICES,
        "1795613649: Client al3 been disconnected by administrative action.",
        ("-", "al3", Cause.KICKED),
    ),
    (
        ERRORS,
        "1795613633: Client al4 already connected, closing old connection.",
        ("-", "al4", Cause.TAKEOVER),
    ),
    (NOTICES, "1795613633: Client al5 disconnected, not authorised.", None),
    (NOTICES, "1795613633: Client al5 disconnected due to protocol error.", None),
    (NOTICES, "1795613633: Bad socket read/write on client al5: Invalid arguments provided.", None),
    (NOTICES, "1795613633: Client <unknown> closed its connection.", ("-", "<unknown>", Cause.CLOSED)),
    (NOTICES, "1795613633: Client 127.0.0.1 closed its connection.", None),
    (NOTICES, "1795613633: Outgoing messages are being dropped for client al1.", None),
    # Without a time, and with one of somebody's own.
    (NOTICES, "Client al1 disconnected.", ("-", "al1", Cause.DISCONNECT)),
    (NOTICES, "2026-11-25T13:00:00+0100: Client al1 disconnected.", ("-", "al1", Cause.DISCONNECT)),
    # A line of the one on the topic of the other.
    (ERRORS, "1795613634: Client al1 disconnected.", None),
    (NOTICES, "1795613633: Client al4 already connected, closing old connection.", None),
]
RECORDED_2_1 = [
    (
        NOTICES,
        "1795613633: New client connected from 127.0.0.1:33891 as al1 (p4, c1, k60, u'alice').",
        ("+", "alice", "al1", "127.0.0.1"),
    ),
    (
        NOTICES,
        "1795613634: Client al1 [127.0.0.1:55173] disconnected.",
        ("-", "al1", Cause.DISCONNECT),
    ),
    (
        NOTICES,
        "1795613634: Client al2 [127.0.0.1:55173] disconnected: connection closed by client.",
        ("-", "al2", Cause.CLOSED),
    ),
    (
        NOTICES,
        "1795613634: Client al3 [127.0.0.1:55173] disconnected: exceeded timeout.",
        ("-", "al3", Cause.KEEP_ALIVE),
    ),
    (
        NOTICES,
        "1795613634: Client al4 [::1:55173] disconnected: session taken over.",
        ("-", "al4", Cause.TAKEOVER),
    ),
    (
        NOTICES,
        "1795613634: Client al4 [127.0.0.1:55173] disconnected: protocol error.",
        ("-", "al4", Cause.ERROR),
    ),
    (NOTICES, "1795613634: Client al5 [127.0.0.1:55173] disconnected: not authorised.", None),
    (NOTICES, "1795613634: Client al1 disconnected.", None),
    (ERRORS, "1795613633: Client al4 already connected, closing old connection.", None),
]


@pytest.mark.parametrize(("topic", "line", "meant"), RECORDED_2_0)
def test_line_of_mosquitto_2_0(topic: str, line: str, meant: tuple[Any, ...] | None) -> None:
    """Each line of 2.0 says what it says, whether or not the version is known; what may be forged, nothing."""
    for version in ("2.0.11", None):
        assert summary(mosquitto(version).read(topic, line.encode())) == meant


@pytest.mark.parametrize(("topic", "line", "meant"), RECORDED_2_1)
def test_line_of_mosquitto_2_1(topic: str, line: str, meant: tuple[Any, ...] | None) -> None:
    """Each line of 2.1 says what it says."""
    assert summary(mosquitto("2.1.2").read(topic, line.encode())) == meant


def test_end_of_2_1_is_that_of_one_connection() -> None:
    """In 2.1 an end tells the address and port of the connect line, so it cannot be mistaken for another's."""
    source = mosquitto("2.1.2")
    begun = source.read(NOTICES, b"17: New client connected from 192.0.2.1:7 as a (p4, c1, k60, u'alice').")
    same = source.read(NOTICES, b"18: Client a [192.0.2.1:7] disconnected.")
    other = source.read(NOTICES, b"18: Client a [192.0.2.1:8] disconnected.")
    assert isinstance(begun, Connected)
    assert isinstance(same, Ended)
    assert isinstance(other, Ended)
    assert begun.network_id & ENDPOINT == same.endpoint != other.endpoint
    assert begun.network_id >> 32 == 17


def test_a_tcp_connection_of_2_0_is_known_by_its_first_line() -> None:
    """Mosquitto logs a TCP connection before its CONNECT, and a WebSocket only at its CONNECT. The first has no
    late line after a takeover; nobody else's line makes a WebSocket look like it.
    """
    source = mosquitto("2.0.11")
    connect = "{}: New client connected from 192.0.2.1:7 as a (p2, c1, k60, u'alice')."
    web = source.read(NOTICES, connect.format(17).encode())
    for line in (
        "New connection from 192.0.2.1:8 on port 1883.",
        "Client New connection from 192.0.2.1:7 on port 1.",
    ):
        source.read(NOTICES, f"17: {line}".encode())
    still_web = source.read(NOTICES, connect.format(18).encode())
    source.read(NOTICES, b"19: New connection from 192.0.2.1:7 on port 1883.")
    tcp = source.read(NOTICES, connect.format(19).encode())
    again = source.read(NOTICES, connect.format(20).encode())
    said = [
        source.is_gone_at_takeover(c.network_id)
        for c in (web, still_web, tcp, again)
        if isinstance(c, Connected)
    ]
    assert said == [False, False, True, False]


@pytest.mark.parametrize("second", ["2147483648", "261125150000", "999999999999"])
def test_digits_that_are_no_seconds_are_no_time(second: str) -> None:
    """`log_timestamp_format` may make any digits, and one day there are more seconds: no number is greater than
    a database holds, and nothing is taken for a time that is none.
    """
    source = mosquitto("2.0.21")
    line = "New client connected from 192.0.2.1:7 as a (p2, c1, k60, u'alice')."
    begun = source.read(NOTICES, f"{second}: {line}".encode())
    assert begun == source.read(NOTICES, line.encode())
    assert isinstance(begun, Connected)
    assert 0 < begun.network_id < 2**32
    assert source.read(NOTICES, f"{second}: Client a disconnected.".encode()) == Ended(
        client_id="a", cause=Cause.DISCONNECT
    )
    greatest = source.read(NOTICES, f"2147483647: {line}".encode())
    assert isinstance(greatest, Connected)
    assert 2**62 < greatest.network_id < 2**63


def test_what_looks_like_2_1_is_not_believed_before_the_version_is_known() -> None:
    """On 2.0 a client may call itself "victim [192.0.2.1:7]": its end must not be the victim's."""
    line = b"18: Client victim [192.0.2.1:7] disconnected."
    assert mosquitto(None).read(NOTICES, line) is None
    assert summary(mosquitto("2.0.21").read(NOTICES, line)) == ("-", "victim [192.0.2.1:7]", Cause.DISCONNECT)
    assert mosquitto("unheard of").read(NOTICES, line) is None


# mosquitto, as it prints: whatever clients call themselves.

FRAGMENTS = [
    "victim", "bob", "alice", "'", "(", ")", ".", " ", ":", ",", "\\", '"', "\N{GRINNING FACE}", "[", "]",
    " (p2, c1, k60, u'bob').", " (p2, c1, k60).", "u'", "').", " (p", " as ", "127.0.0.1:1883", "17: ",
    "New client connected from 192.0.2.1:7 as victim (p2, c1, k60, u'bob').", "Client victim disconnected.",
    " disconnected.", " disconnected", " closed its connection.", " closed its connection", "Client ", "Client victim",
    " has exceeded timeout, disconnecting.", " already connected, closing old connection.", " [192.0.2.1:7]",
    " [192.0.2.1:7] disconnected: exceeded timeout.", " disconnected: exceeded timeout", "\N{GRINNING FACE}" * 100,
    "x" * 120, "192.0.2.1",
]  # fmt: skip
names = (
    st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=3), min_size=1, max_size=6)
    .map("".join)
    .filter(lambda text: "\0" not in text and "\n" not in text and _is_utf8(text))
)
addresses = st.sampled_from(["127.0.0.1", "192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"])
times = st.sampled_from(["17: ", "", "2026-11-25 13:00:00: "])
thorough = settings(max_examples=500, deadline=None)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printed(time: str, line: str) -> bytes:
    """As mosquitto does: into a buffer of 1000 bytes, with a NUL at its end."""
    return (time + line).encode()[:999]


def read(version: str | None, topic: str, line: bytes) -> Said:
    return mosquitto(version).read(topic, line)


@thorough
@given(names, names, addresses, st.integers(1, 65_535), times, st.sampled_from(["2.0.11", "2.1.2", None]))
@example("al9 (p2, c1, k60, u'bob').", "mallory", "192.0.2.1", 7, "17: ", "2.0.11")
@example("victim", "x') (p2, c1, k60, u'bob", "192.0.2.1", 7, "17: ", "2.0.11")
def test_connect_line_is_read_as_it_was_meant_or_not_at_all(
    client: str, user: str, address: str, port: int, time: str, version: str | None
) -> None:
    """For all client ids and user names: exactly these, or nothing."""
    line = f"New client connected from {address}:{port} as {client} (p2, c1, k60, u'{user}')."
    said = read(version, NOTICES, printed(time, line))
    assert said is None or summary(said) == ("+", user, client, plain_address(address))
    anonymous = f"New client connected from {address}:{port} as {client} (p2, c1, k60)."
    said = read(version, NOTICES, printed(time, anonymous))
    assert said is None or summary(said) == ("+", None, client, plain_address(address))


@thorough
@given(
    st.text("abc 123-_.", min_size=1, max_size=100).filter(is_name),
    st.text("abcä@.'", min_size=1, max_size=100).filter(is_name),
)
def test_usual_names_are_read(client: str, user: str) -> None:
    """Names that imitate nothing are never refused, quotes, dots and spaces included."""
    line = f"New client connected from 192.0.2.1:7 as {client} (p5, c0, k0, u'{user}')."
    assert summary(read(None, NOTICES, printed("17: ", line))) == ("+", user, client, "192.0.2.1")


ENDS_2_0 = {
    "Client {} disconnected.": Cause.DISCONNECT,
    "Client {} closed its connection.": Cause.CLOSED,
    "Client {} has exceeded timeout, disconnecting.": Cause.KEEP_ALIVE,
    "Client {} been disconnected by administrative action.": Cause.KICKED,
}
OTHER_LINES = [
    "Client {} disconnected, not authorised.",
    "Client {} disconnected due to protocol error.",
    "Client {} disconnected due to malformed packet.",
    "Client {} negotiated TLSv1.3 cipher TLS_AES_256_GCM_SHA384",
    "Outgoing messages are being dropped for client {}.",
    "Bad socket read/write on client {}: Invalid arguments provided.",
    "Bad socket read/write on client {}: {}.",
    "Error: {}.",
    "New bridge connected from 192.0.2.1:7 as {} (p2, c1, k60, u'bob').",
    "Protocol error from {}: CONNECT with missing protocol string.",
]


@thorough
@given(names, st.sampled_from(list(ENDS_2_0)), times, st.sampled_from(["2.0.11", None]))
@example("victim [192.0.2.1:7]", "Client {} disconnected.", "17: ", None)
def test_end_line_of_2_0_is_read_as_it_was_meant_or_not_at_all(
    client: str, line: str, time: str, version: str | None
) -> None:
    """For all client ids: exactly this one, and what was meant, or nothing."""
    said = read(version, NOTICES, printed(time, line.format(client)))
    assert said is None or summary(said) == ("-", client, ENDS_2_0[line])
    taken = printed(time, f"Client {client} already connected, closing old connection.")
    said = read(version, ERRORS, taken)
    assert said is None or summary(said) == ("-", client, Cause.TAKEOVER)


@thorough
@given(names, addresses, st.integers(1, 65_535), st.sampled_from(["", ": exceeded timeout", ": new words"]))
def test_end_line_of_2_1_is_read_as_it_was_meant_or_not_at_all(
    client: str, address: str, port: int, words: str
) -> None:
    """For all client ids of 2.1, whatever the bridge takes the broker for."""
    for version in ("2.1.2", None):
        said = read(
            version, NOTICES, printed("17: ", f"Client {client} [{address}:{port}] disconnected{words}.")
        )
        assert said is None or (isinstance(said, Ended) and said.client_id == client)


@thorough
@given(names, names, st.sampled_from(OTHER_LINES), times, st.sampled_from(["2.0.11", "2.1.2", None]))
@example("x: Client victim disconnected", "", OTHER_LINES[4], "17: ", "2.0.11")
@example(
    "x", "New client connected from 192.0.2.1:7 as victim (p2, c1, k60, u'bob')", OTHER_LINES[6], "17: ", None
)
def test_other_lines_say_nothing(one: str, two: str, line: str, time: str, version: str | None) -> None:
    """No other line that has a client's words in it is taken for a connect or an end of anybody else."""
    said = read(version, NOTICES, printed(time, line.format(one, two)))
    assert said is None or (isinstance(said, Ended) and said.client_id.startswith(one))
    assert not line.startswith("Client {} disc") or said is None or version == "2.1.2"


@thorough
@given(st.sampled_from([NOTICES, ERRORS, VERSION, "$SYS/broker/uptime"]), st.binary(max_size=1200))
def test_any_bytes_are_no_trouble(topic: str, payload: bytes) -> None:
    """Nothing that comes makes it fail; what it makes are names that topics could have."""
    for source in (mosquitto("2.0.11"), EmqxEvents(), NanomqEvents()):
        said = source.read(topic, payload)
        assert said is None or is_name(said.client_id)


# EMQX, by its documentation.

EMQX = "$SYS/brokers/emqx@127.0.0.1/clients/{}/{}"


def emqx(client: str = "phone", what: str = "connected", **fields: Any) -> Said:
    body = {
        "username": "alice", "ts": 1625572213873, "sockport": 1883, "proto_ver": 4, "proto_name": "MQTT",
        "keepalive": 60, "ipaddress": "192.0.2.1", "expiry_interval": 0, "connected_at": 1625572213870,
        "connack": 0, "clientid": client, "clean_start": True, "protocol": "mqtt",
    } | fields  # fmt: skip
    return EmqxEvents().read(EMQX.format(client, what), json.dumps(body).encode())


def test_emqx_connected() -> None:
    """User, client, address, and when: that names the connection."""
    assert emqx() == Connected("phone", "alice", "192.0.2.1", 1625572213870)
    assert emqx(ipaddress="192.0.2.1:5000") == Connected("phone", "alice", "192.0.2.1", 1625572213870)
    assert emqx(ipaddress=None) == Connected("phone", "alice", None, 1625572213870)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("normal", Cause.DISCONNECT),
        ("tcp_closed", Cause.CLOSED),
        ("keepalive_timeout", Cause.KEEP_ALIVE),
        ("takenover", Cause.TAKEOVER),
        ("discarded", Cause.TAKEOVER),
        ("kicked", Cause.KICKED),
        ("frame_too_large", Cause.ERROR),
        (None, Cause.ERROR),
    ],
)
def test_emqx_disconnected(reason: str | None, cause: Cause) -> None:
    """The cause, and by `connected_at` which connection; EMQX 4 does not tell that."""
    ended = Ended(client_id="phone", user_id="alice", cause=cause, network_id=1625572213870)
    assert emqx(what="disconnected", reason=reason) == ended
    said = emqx(what="disconnected", reason=reason, connected_at=None)
    assert said == Ended(client_id="phone", user_id="alice", cause=cause)


def test_emqx_without_a_user_name() -> None:
    """A client without a name is reported without one; Erlang writes it as a word."""
    for name in ("undefined", None, ""):
        assert emqx(username=name) == Connected("phone", None, "192.0.2.1", 1625572213870)


def test_emqx_is_not_believed_when_it_does_not_fit() -> None:
    """Names that no topic could have, another client's topic, no JSON."""
    assert emqx(username="a/b") is None
    assert emqx(clientid="other") is None
    assert emqx(client="a/connected") is None
    assert emqx(connected_at="now") is None
    assert emqx(connected_at=-1) is None
    assert EmqxEvents().read(EMQX.format("phone", "connected"), b"{") is None
    assert EmqxEvents().read("$SYS/brokers/x/gateway/stomp/clients/phone/connected", b"{}") is None


# NanoMQ, by its documentation.

NANOMQ_CONNECTED = (
    '{{"username":"{}", "ts":1691225605933,"proto_name":"MQTT","keepalive":60,"return_code":"0","proto_ver":4,'
    '"client_id":"{}","clean_start":1, "IPv4":"127.0.0.1"}}'
)
NANOMQ_ENDED = '{{"username":"{}","ts":1691225608391,"reason_code":"{}","client_id":"{}","IPv4":"127.0.0.1"}}'


def nanomq(topic: str, text: str) -> Said:
    return NanomqEvents().read(f"$SYS/brokers/{topic}", text.encode())


def test_nanomq() -> None:
    """Both messages as its documentation shows them, and as older versions wrote them."""
    begun = Connected("phone", "hello", "127.0.0.1", 1691225605933)
    assert nanomq("connected", NANOMQ_CONNECTED.format("hello", "phone")) == begun
    assert nanomq("connected", NANOMQ_CONNECTED.format("hello", "phone") + "\0") == begun
    old = NANOMQ_CONNECTED.format("hello", "phone").replace(', "IPv4":"127.0.0.1"', "")
    assert nanomq("connected", old) == Connected("phone", "hello", None, 1691225605933)
    for code, cause in (("0", "disconnect"), ("8b", "closed"), ("8d", "keepAlive"), ("8e", "takeover")):
        said = nanomq("disconnected", NANOMQ_ENDED.format("hello", code, "phone"))
        assert said == Ended(client_id="phone", user_id="hello", cause=Cause(cause))
    unnamed = nanomq("connected", NANOMQ_CONNECTED.format("(null)", "phone"))
    assert unnamed == Connected("phone", None, "127.0.0.1", 1691225605933)
    assert nanomq("connected", NANOMQ_CONNECTED.format("hello", "phone").replace('"0"', '"5"')) is None


JSON_FRAGMENTS = [
    '"', "\\", ",", "{", "}", "victim", ":", '","client_id":"victim', '","ts":1,"reason_code":"0","client_id":"victim',
    '","IPv4":"192.0.2.1"}', '"username":"', '\\"', " ",
]  # fmt: skip
json_names = st.lists(st.sampled_from(JSON_FRAGMENTS), min_size=1, max_size=6).map("".join)


@thorough
@given(json_names, json_names)
@example("mallory", 'm","client_id":"victim')
def test_nanomq_is_read_as_it_was_meant_or_not_at_all(user: str, client: str) -> None:
    """NanoMQ pastes names into its JSON as they are: no name writes fields of its own."""
    said = nanomq("connected", NANOMQ_CONNECTED.format(user, client))
    assert said is None or summary(said) == ("+", user, client, "127.0.0.1")
    said = nanomq("disconnected", NANOMQ_ENDED.format(user, "0", client))
    assert said is None or (isinstance(said, Ended) and (said.user_id, said.client_id) == (user, client))


def test_addresses_are_written_as_people_do() -> None:
    """IPv4 within IPv6 as IPv4; what is none, not at all."""
    assert plain_address("::ffff:192.0.2.1") == "192.0.2.1"
    assert plain_address("2001:DB8:0::1") == "2001:db8::1"
    assert plain_address("(null)") is None
    assert plain_address("") is None
