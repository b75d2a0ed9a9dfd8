"""Payloads: clients' messages, decoded whole or refused whole; and the bridge's messages."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol import incoming, outgoing
from mqtt_presence.protocol.client_messages import decode_announcement
from mqtt_presence.protocol.incoming import TimeRequest
from mqtt_presence.protocol.times import LATEST
from mqtt_presence.protocol.topics import VERBS, Input, Topics
from mqtt_presence.rules.events import Activity, End, Login
from mqtt_presence.rules.model import Connection, ConnectionEvent, LastLogin, Reason, State, Status, UserEvent

NOW = 1_795_608_000_000
ISO = "2026-11-25T12:00:00.000Z"
quick = settings(deadline=None, max_examples=200)


def read(verb: str, payload: bytes | str | dict[str, Any], ip_addr: str | None = None) -> Any:
    if isinstance(payload, dict):
        payload = json.dumps(payload)
    if isinstance(payload, str):
        payload = payload.encode()
    return incoming.parse(Input("alice", "phone", verb), payload, NOW, ip_addr)


def refused(verb: str, payload: bytes | str | dict[str, Any]) -> PayloadError:
    with pytest.raises(PayloadError) as error:
        read(verb, payload)
    return error.value


# Good input


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b" {} ", b'{"unknown": [1, {"x": null}]}', b'{"connectionId": null}']
)
def test_smallest_device_needs_no_json(payload: bytes) -> None:
    """Empty payloads, empty objects, unknown fields and nulls all mean that every field is absent."""
    login = read("login", payload)
    assert login == Login(user_id="alice", client_id="phone", now=NOW, fresh_id=login.fresh_id)
    activity = read("activity", payload)
    assert activity == Activity(user_id="alice", client_id="phone", now=NOW, fresh_id=activity.fresh_id)
    for verb, reason in (("logout", Reason.LOGOUT), ("will", Reason.LOST)):
        assert read(verb, payload) == End(user_id="alice", client_id="phone", now=NOW, reason=reason)
    assert read("time", payload) == TimeRequest("alice", "phone", b"null", NOW)


def test_login_with_everything_is_read() -> None:
    """Every field of a login arrives, in milliseconds where it is a time or a duration."""
    login = read(
        "login",
        {
            "connectionId": "c1",
            "time": NOW - 5,
            "userAgent": "app/1.0",
            "idleThreshold": 30,
            "timeout": 0.25,
            "announce": True,
            "meta": {"room": "7"},
        },
        "192.0.2.7",
    )
    assert login == Login(
        user_id="alice",
        client_id="phone",
        now=NOW,
        connection_id="c1",
        time=NOW - 5,
        ip_addr="192.0.2.7",
        user_agent="app/1.0",
        idle_threshold_ms=30_000,
        timeout_ms=250,
        announce=True,
        meta='{"room": "7"}',
    )


def test_null_counts_as_absent() -> None:
    """A field that is null counts as absent."""
    fields = ("connectionId", "time", "userAgent", "idleThreshold", "timeout", "announce", "meta")
    login = read("login", dict.fromkeys(fields))
    assert login == Login(user_id="alice", client_id="phone", now=NOW, fresh_id=login.fresh_id)
    activity = read("activity", dict.fromkeys(("connectionId", "idle", "lastActivity")))
    assert activity == Activity(user_id="alice", client_id="phone", now=NOW, fresh_id=activity.fresh_id)


def test_nothing_in_a_payload_names_another_user_or_client() -> None:
    """The identity comes from the topic, never from the payload."""
    claims = {
        "userId": "bob",
        "user_id": "bob",
        "clientId": "x",
        "user": "bob",
        "now": 1,
        "ipAddr": "x",
        "reason": "lost",
    }
    for verb in ("login", "activity", "logout", "will"):
        event = read(verb, claims)
        assert (event.user_id, event.client_id, event.now) == ("alice", "phone", NOW)
    assert read("logout", claims).reason is Reason.LOGOUT
    assert read("login", claims).ip_addr is None


def test_without_an_id_a_fresh_one_is_offered_each_time() -> None:
    """The rules make up no ids: `parse` adds a new one, but only if the client names none."""
    fresh = {read(verb, b"").fresh_id for verb in ("login", "activity") for _ in range(10)}
    assert len(fresh) == 20
    assert all(1 <= len(one) <= 64 for one in fresh)
    assert read("login", {"connectionId": "c"}).fresh_id is None


@pytest.mark.parametrize(
    "connection_id",
    ["c", "x" * 64, "é" * 64, "𝄞" * 64, "a b", "/+#", "{}", '"', "\u00a0", "\u200d", "👩\u200d🚀", "null"],
    ids=ascii,
)
@pytest.mark.parametrize("verb", ["login", "activity", "logout", "will"])
def test_connection_id_of_1_to_64_characters_is_taken_as_it_is(verb: str, connection_id: str) -> None:
    """A connection id is any 1 to 64 characters, unchanged."""
    assert read(verb, {"connectionId": connection_id}).connection_id == connection_id


@pytest.mark.parametrize(
    ("value", "millis"),
    [
        (NOW, NOW),
        (0, 0),
        (LATEST, LATEST),
        (float(NOW), NOW),
        (NOW + 0.75, NOW),
        (1e12, 10**12),
        ("2026-11-25T12:00:00Z", NOW),
        ("2026-11-25T13:00:00.5+01:00", NOW + 500),
        ("2026-11-25T06:30:00-05:30", NOW),
        (NOW + 10**9, NOW + 10**9),
    ],
)
def test_time_is_read_as_milliseconds_or_iso(value: Any, millis: int) -> None:
    """Epoch milliseconds or ISO 8601 with an offset, also in the future, which the rules handle."""
    assert read("login", {"time": value}).time == millis
    assert read("activity", {"lastActivity": value}).last_activity == millis


@pytest.mark.parametrize(
    ("value", "millis"),
    [(60, 60_000), (1.5, 1_500), (0.0004, 1), (0, 0), (0.0, 0), (None, None), (3.15e8, 315_000_000_000)],
)
def test_duration_is_read_as_seconds(value: float | None, millis: int | None) -> None:
    """Durations are seconds, with fractions; 0 clears, null is absent, and no positive duration becomes 0."""
    login = read("login", {"idleThreshold": value, "timeout": value})
    assert (login.idle_threshold_ms, login.timeout_ms) == (millis, millis)


@pytest.mark.parametrize("idle", [True, False])
def test_report_and_heartbeat_are_told_apart(idle: bool) -> None:
    """`idle` true or false is a report; without it, it is a heartbeat."""
    assert read("activity", {"idle": idle}).idle is idle
    assert read("activity", {"lastActivity": NOW}).idle is None


def test_user_agent_is_text_any_database_keeps() -> None:
    """U+0000, which PostgreSQL cannot store, is replaced; other characters stay."""
    assert read("login", r'{"userAgent": "a\u0000b \ud834\udd1e"}').user_agent == "a\ufffdb 𝄞"


@pytest.mark.parametrize("meta", ["{}", "{ }", "{\n}"])
def test_empty_meta_has_one_spelling(meta: str) -> None:
    """An empty object in any spelling clears the known meta (L2)."""
    assert read("login", '{"meta": ' + meta + " }").meta == "{}"


@pytest.mark.parametrize(
    "meta",
    [
        "{}",
        '{"a": [1, 2.5, null, true, "é"]}',
        '{"a":"\\u0000"}',
        '{"a":' + "9" * 100 + "}",
        '{"a":"' + "x" * 2040 + '"}',
    ],
    ids=lambda meta: meta[:20],
)
def test_meta_is_kept_as_it_was_written(meta: str) -> None:
    """An object of up to 2 KiB is stored byte for byte."""
    assert read("login", '{"meta": ' + meta + " }").meta == meta
    assert isinstance(json.loads(meta), dict)


@pytest.mark.parametrize(
    "t0", ["1", "1.50", '"x"', "[1, 2 , 3]", '{"a": null}', "null", "true", '"' + "x" * 62 + '"', "-0", "1e5"]
)
def test_t0_is_handed_back_as_it_came(t0: str) -> None:
    """The reply repeats up to 64 bytes of JSON, with both of the bridge's times."""
    request = read("time", '{"t0": ' + t0 + " }")
    assert request == TimeRequest("alice", "phone", t0.encode(), NOW)
    assert outgoing.encode_time_reply(request, NOW + 3) == f'{{"t0":{t0},"t1":{NOW},"t2":{NOW + 3}}}'.encode()


def test_payload_of_exactly_8_kib_is_read() -> None:
    """8 KiB are accepted; one byte more is refused as too large."""
    empty = len(b'{"x":""}')
    fits = b'{"x":"' + b"a" * (8 * 1024 - empty) + b'"}'
    assert len(fits) == 8192
    for verb in VERBS:
        read(verb, fits)
        error = refused(verb, fits + b" ")
        assert error.reason == "too_large"


# Refused input

NOT_AN_OBJECT: list[bytes] = [
    b" ",
    b"\n",
    b"x",
    b"null",
    b"true",
    b"1",
    b'"x"',
    b"[]",
    b"[{}]",
    b"{",
    b"}",
    b"{}{}",
    b"{}x",
    b"{'a':1}",
    b"{a:1}",
    b'{"a":1,}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":01}',
    b'{"a":+1}',
    b"\xef\xbb\xbf{}",
    b"\xff",
    b"\x00",
    b"{}\x00",
    b'{"a":"\n"}',
    b"{\x00}",
    b"[" * 8192,
    b'{"a":' * 1600,
    "{}".encode("utf-16"),
]


@pytest.mark.parametrize("payload", NOT_AN_OBJECT, ids=lambda payload: ascii(payload[:24]))
@pytest.mark.parametrize("verb", ["login", "activity", "logout", "will", "time"])
def test_payload_that_is_no_json_object_is_refused(verb: str, payload: bytes) -> None:
    """Any payload that is neither empty nor a JSON object is refused."""
    assert refused(verb, payload).reason == "bad_payload"


BAD_ID = [
    '""',
    '"' + "x" * 65 + '"',
    "1",
    "true",
    "{}",
    "[]",
    r'"\u0000"',
    r'"a\nb"',
    r'"\u007f"',
    r'"\u0085"',
    r'"\ud800"',
    r'"\udc00x"',
    '"a\\"',
]
BAD_TEXT = ["1", "true", "[]", "{}", r'"\ud800"']
BAD_TIME = [
    "-1",
    "-1e300",
    "1e300",
    "1e999",
    "-1e999",
    "9" * 400,
    "253402300800000",
    "true",
    "[]",
    "{}",
    '""',
    '"now"',
    '"1795608000000"',
    '"2026-11-25"',
    '"2026-11-25T12:00:00"',
    '"1969-12-31T23:59:59Z"',
    '"0001-01-01T00:00:00+23:59"',
    '"2026-11-25T12:00:00+99:00"',
    "NaN",
    "Infinity",
    r'"\ud800"',
    '"' + "9" * 5000 + '"',
]
BAD_DURATION = [
    "-1",
    "-0.001",
    "1e300",
    "1e999",
    "9" * 400,
    '"60"',
    "true",
    "[]",
    "{}",
    "NaN",
    "Infinity",
    "-Infinity",
]
BAD_META = [
    "1",
    '"x"',
    "true",
    "false",
    "[]",
    "[{}]",
    '{"a":"' + "x" * 2041 + '"}',
    '{"a":01}',
    '{"a":NaN}',
    '{"a":"\\ud800"}',
    '{"\\ud800":1}',
    '{"a":1e999}',
    "{" + '"a":1',
    '{"a"}',
    '{"é":"' + "é" * 1020 + '"}',
]
BAD_T0 = [
    '"' + "x" * 63 + '"',
    '"' + "é" * 32 + '"',
    "01",
    "NaN",
    r'"\ud800"',
    '{"a"}',
    "1e999",
    "[" * 32 + "1" + "]" * 32,
    "1 2",
]

BAD_FIELDS = [
    *((verb, "connectionId", value) for verb in ("login", "activity", "logout", "will") for value in BAD_ID),
    *(("login", "time", value) for value in BAD_TIME),
    *(("activity", "lastActivity", value) for value in BAD_TIME),
    *(("login", "userAgent", value) for value in BAD_TEXT),
    *(("login", field, value) for field in ("idleThreshold", "timeout") for value in BAD_DURATION),
    *(("login", "announce", value) for value in ("0", "1", '"true"', "[]", "{}")),
    *(("activity", "idle", value) for value in ("0", "1", '"true"', "[]", "{}")),
    *(("login", "meta", value) for value in BAD_META),
    *(("time", "t0", value) for value in BAD_T0),
]


@pytest.mark.parametrize(("verb", "field", "value"), BAD_FIELDS, ids=lambda part: ascii(part[:30]))
def test_field_of_a_wrong_type_or_range_refuses_the_message(verb: str, field: str, value: str) -> None:
    """One wrong field refuses the whole message."""
    error = refused(verb, '{"unknown": 1, "' + field + '": ' + value + "}")
    assert error.reason == "bad_payload"
    assert error.detail


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xc0\xaf"], ids=ascii
)
@pytest.mark.parametrize(
    ("verb", "around"),
    [
        ("login", b'{"meta":{"a":"@"}}'),
        ("login", b'{"meta":{"@":1}}'),
        ("login", b'{"meta":{"a":[{"b":"@"}]}}'),
        ("login", b'{"userAgent":"@"}'),
        ("will", b'{"connectionId":"@"}'),
        ("time", b'{"t0":"@"}'),
        ("time", b'{"t0":{"@":1}}'),
    ],
)
def test_invalid_utf_8_in_what_is_kept_refuses_the_message(verb: str, around: bytes, bad: bytes) -> None:
    """Bytes that are no UTF-8 are refused, also in JSON that is stored as text."""
    assert refused(verb, around.replace(b"@", bad)).reason == "bad_payload"


@pytest.mark.parametrize("depth", [10, 500, 1_000, 4_000])
@pytest.mark.parametrize(
    ("verb", "field"), [("login", "meta"), ("time", "t0"), ("will", "connectionId"), ("activity", "unknown")]
)
def test_deep_nesting_is_read_or_refused(verb: str, field: str, depth: int) -> None:
    """A payload of any depth is a message or refused; the limit is Python's."""
    payload = b'{"' + field.encode() + b'":{"a":' + b"[" * depth + b"]" * depth + b"}}"
    try:
        read(verb, payload)
    except PayloadError as error:
        assert error.reason in {"bad_payload", "too_large"}  # noqa: PT017 - it may also be accepted
    else:
        assert depth < 1_024 or field == "unknown"


@pytest.mark.parametrize("within_s", [1, 1.5, 15, 3600])
def test_client_reads_the_time_for_answers_as_the_bridge_writes_it(within_s: float) -> None:
    """The `within` of an announcement is in seconds; without one, the payload is that of old bridges."""
    assert decode_announcement(outgoing.encode_announcement(within_s)) == within_s
    assert outgoing.encode_announcement(0) == b"{}"


JUNK_WITHIN = ("-1", "-0.0", "NaN", "1e999", '"5"', "null", "true", "[5]", "{}", "0", "5,")


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"[]", b"5", b"\xff", *(b'{"within":%b}' % w.encode() for w in JUNK_WITHIN)]
)
def test_junk_in_an_announcement_is_answered_at_once(payload: bytes) -> None:
    """Otherwise a client would end although it is there."""
    assert decode_announcement(payload) == 0


def test_no_announcement_waits_longer_than_an_hour() -> None:
    """However long the time in the payload."""
    assert decode_announcement(b'{"within":1e300}') == decode_announcement(b'{"within":99999999999}') == 3600


# Anything

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=80),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        "connectionId",
        "time",
        "userAgent",
        "idleThreshold",
        "timeout",
        "announce",
        "meta",
        "idle",
        "lastActivity",
        "t0",
        "x",
    ]
)
objects = st.dictionaries(fields, json_values, max_size=4).map(lambda value: json.dumps(value).encode())
texts = st.dictionaries(fields, json_values, max_size=4).map(
    lambda value: json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
)
broken = st.tuples(objects, st.integers(0, 200), st.binary(max_size=3)).map(
    lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]
)


@settings(deadline=None, max_examples=600)
@given(st.sampled_from(sorted(VERBS)), st.binary(max_size=300) | objects | texts | broken)
def test_parse_raises_nothing_but_payload_error(verb: str, payload: bytes) -> None:
    """Any bytes are a message or refused; an accepted message can be stored and sent."""
    try:
        event = read(verb, payload)
    except PayloadError as error:
        assert error.reason in {"bad_payload", "too_large"}  # noqa: PT017 - it may also be accepted
        return
    match event:
        case Login():
            for text in (event.connection_id, event.user_agent, event.meta):
                assert text is None or "\0" not in text.encode().decode()
            assert event.time is None or 0 <= event.time <= LATEST
            assert all(d is None or 0 <= d < 2**63 for d in (event.idle_threshold_ms, event.timeout_ms))
            assert event.meta is None or isinstance(json.loads(event.meta), dict)
        case Activity():
            assert event.last_activity is None or 0 <= event.last_activity <= LATEST
            assert event.idle in (None, True, False)
        case TimeRequest():
            json.loads(outgoing.encode_time_reply(event, NOW))
        case End():
            assert event.connection_id is None or 1 <= len(event.connection_id) <= 64


@quick
@given(st.text(max_size=80), st.binary(max_size=50))
def test_any_topic_and_bytes_are_a_message_or_a_payload_error(topic: str, payload: bytes) -> None:
    """No exception other than PayloadError leaves the way from the wire to the rules."""
    try:
        incoming.parse(Topics().parse_input(topic), payload, NOW)
    except PayloadError:
        return


# What the bridge sends

LAST_LOGIN = LastLogin(order=NOW - 9, date=NOW, ip_addr="192.0.2.7", user_agent="app/1.0")


def sent(status: Status, *, private: bool = False, last_seen: int | None = NOW) -> dict[str, Any]:
    return json.loads(
        outgoing.encode_status("alice", status, version=17, last_seen=last_seen, private=private)
    )


def test_status_is_the_documented_json() -> None:
    """An idle user's status is the documented object."""
    status = Status(state=State.IDLE, since=NOW, connections=2, last_activity=NOW - 1, last_login=LAST_LOGIN)
    assert sent(status, private=True) == {
        "userId": "alice",
        "state": "idle",
        "online": True,
        "idle": True,
        "since": ISO,
        "lastLogin": {"date": ISO, "ipAddr": "192.0.2.7", "userAgent": "app/1.0"},
        "lastActivity": "2026-11-25T11:59:59.999Z",
        "lastSeen": ISO,
        "connections": 2,
        "version": 17,
    }


def test_status_tells_addresses_only_where_it_may() -> None:
    """Without publish_private, lastLogin is only a date."""
    assert sent(Status(state=State.ONLINE, since=NOW, connections=1, last_login=LAST_LOGIN))["lastLogin"] == {
        "date": ISO
    }


def test_status_online_says_idle_false_and_no_activity() -> None:
    """Online: idle is false, and lastActivity is absent."""
    assert sent(Status(state=State.ONLINE, since=NOW, connections=1)) == {
        "userId": "alice",
        "state": "online",
        "online": True,
        "idle": False,
        "since": ISO,
        "lastSeen": ISO,
        "connections": 1,
        "version": 17,
    }


def test_status_offline_says_nothing_of_idle() -> None:
    """Offline: idle and lastActivity are absent, not null, and connections is 0."""
    assert sent(Status(since=NOW), last_seen=None) == {
        "userId": "alice",
        "state": "offline",
        "online": False,
        "since": ISO,
        "connections": 0,
        "version": 17,
    }


def test_status_last_login_without_address_or_agent_leaves_them_out() -> None:
    """Unknown is absent, not null."""
    status = Status(since=NOW, last_login=LastLogin(order=0, date=NOW))
    assert sent(status, private=True)["lastLogin"] == {"date": ISO}


def connection(**more: Any) -> Connection:
    return Connection(
        user_id="alice",
        client_id="phone",
        connection_id="c1",
        last_seen=NOW,
        login_time=NOW,
        ip_addr="192.0.2.7",
        user_agent="app/1.0",
        meta='{"a":1}',
        **more,
    )


NAMED = {"userId": "alice", "clientId": "phone", "connectionId": "c1"}
EVENTS: list[tuple[ConnectionEvent | UserEvent, dict[str, Any]]] = [
    (
        ConnectionEvent("connectionLogin", connection(idle=True, last_activity=NOW)),
        NAMED | {"ipAddr": "192.0.2.7", "userAgent": "app/1.0", "loginTime": ISO},
    ),
    (
        ConnectionEvent("connectionLogin", Connection("alice", "phone", "c1", NOW, login_time=NOW)),
        NAMED | {"loginTime": ISO},
    ),
    (
        ConnectionEvent(
            "connectionLogout", connection(logout_time=NOW, reason=Reason.LOST, idle=True, last_activity=NOW)
        ),
        NAMED | {"logoutTime": ISO, "lastActivity": ISO, "reason": "lost"},
    ),
    (
        ConnectionEvent(
            "connectionLogout",
            connection(logout_time=NOW, reason=Reason.TIMEOUT, idle=False, last_activity=NOW),
        ),
        NAMED | {"logoutTime": ISO, "reason": "timeout"},
    ),
    (
        ConnectionEvent("connectionLogout", connection(logout_time=NOW, reason=Reason.LOGOUT)),
        NAMED | {"logoutTime": ISO, "reason": "logout"},
    ),
    (
        ConnectionEvent("connectionIdle", connection(idle=True, last_activity=NOW)),
        NAMED | {"lastActivity": ISO},
    ),
    (
        ConnectionEvent("connectionActive", connection(idle=False, last_activity=NOW)),
        NAMED | {"lastActivity": ISO},
    ),
    (
        UserEvent("userOnline", "alice", NOW, 1),
        {"userId": "alice", "version": 17, "time": ISO, "connections": 1},
    ),
    (
        UserEvent("userOffline", "alice", NOW, 0),
        {"userId": "alice", "version": 17, "time": ISO, "connections": 0},
    ),
]


@pytest.mark.parametrize(("event", "expected"), EVENTS, ids=lambda part: getattr(part, "name", ""))
def test_event_has_exactly_the_documented_fields(
    event: ConnectionEvent | UserEvent, expected: dict[str, Any]
) -> None:
    """Every event has the documented fields, no other, and none is null."""
    assert json.loads(outgoing.encode_event(event, 17)) == expected


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_written_as_documented(reason: Reason) -> None:
    """Payloads have the reasons' values."""
    event = ConnectionEvent("connectionLogout", connection(logout_time=NOW, reason=reason))
    assert json.loads(outgoing.encode_event(event, 1))["reason"] == reason.value


@pytest.mark.parametrize("state", ["online", "offline"])
def test_bridge_state_is_the_documented_json(state: str) -> None:
    """`bridge/state` has the state, the version and the start time only."""
    assert json.loads(outgoing.encode_bridge_state(state, 3, NOW)) == {
        "state": state,
        "version": 3,
        "startedAt": ISO,
    }


@quick
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
def test_any_text_goes_out_as_json_and_comes_back(text: str) -> None:
    """Any names of clients come back unchanged in the bridge's JSON."""
    status = Status(
        state=State.ONLINE, since=0, connections=1, last_login=LastLogin(order=0, date=0, user_agent=text)
    )
    assert sent(status, private=True)["lastLogin"]["userAgent"] == text
    event = ConnectionEvent("connectionLogin", Connection(text, text, text, NOW))
    assert json.loads(outgoing.encode_event(event, 1)) == {
        "userId": text,
        "clientId": text,
        "connectionId": text,
    }


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"[]", b"null", b"1", b"\xff", b'{"a":"\xff"}', b"[" * 100_000, b'{"a":' * 100_000]
)
def test_decode_object_refuses_anything_but_an_object(payload: bytes) -> None:
    """A payload that is no JSON object raises PayloadError."""
    with pytest.raises(PayloadError):
        incoming.decode_object(payload)


def test_decode_object_reads_an_object_of_any_fields() -> None:
    """An object with any fields is decoded."""
    assert incoming.decode_object(b'{"a": [1, null], "b": {"c": "d"}}') == {"a": [1, None], "b": {"c": "d"}}
