"""docs/asyncapi.yaml is valid, and agrees with the code: topics, accepted messages, published messages."""

import inspect
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, FormatChecker, ValidationError
from jsonschema.exceptions import best_match
from jsonschema.validators import extend, validator_for
from msgspec.structs import replace
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from mqtt_presence.errors import PayloadError
from mqtt_presence.integrations.notifications.notification import OUTAGE_EVENTS
from mqtt_presence.mqtt.url import DEFAULT_PATH, DEFAULT_PORTS
from mqtt_presence.protocol import client_messages, incoming, outgoing, sizes, topics
from mqtt_presence.protocol.publications import Publication, outcome_publications
from mqtt_presence.protocol.times import LATEST
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.rules import status
from mqtt_presence.rules.events import (
    Activity,
    CheckDeadlines,
    ClockSteppedBack,
    End,
    EndUnconfirmed,
    Event,
    Login,
    NetworkClosed,
)
from mqtt_presence.rules.fold import fold
from mqtt_presence.rules.model import Cause, Reason, RuleSettings, State, UserPresence
from mqtt_presence.settings import SETTINGS
from mqtt_presence.store import Store
from mqtt_presence.tools.check.delivery_probes import encoded_status as status_of_the_check
from tests.support.bridges import BridgeThread
from tests.support.brokers import Mosquitto
from tests.support.playing import settle
from tests.support.recorder import Heard

ROOT = Path(__file__).parents[1]
DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs/asyncapi.yaml").read_text("utf-8"))
OFFICIAL: dict[str, Any] = json.loads(
    (ROOT / "node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json").read_text("utf-8")
)
PROTOCOL = (ROOT / "docs/protocol.md").read_text("utf-8")
CHANNELS: dict[str, Any] = DOCUMENT["channels"]
MESSAGES: dict[str, Any] = DOCUMENT["components"]["messages"]
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
NOW = 1_795_608_000_000
JSON = "application/json"


# Reading the document.


def nodes(value: Any, path: str = "#") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every object in the document, with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, inner in value.items():
            yield from nodes(inner, f"{path}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nodes(inner, f"{path}/{number}")


def resolve(value: dict[str, Any]) -> dict[str, Any]:
    """Follow references to their target."""
    while "$ref" in value:
        found: Any = DOCUMENT
        for key in value["$ref"].removeprefix("#/").split("/"):
            found = found[key]
        value = found
    return value


def closed(document: dict[str, Any]) -> dict[str, Any]:
    """Copy the document; in the copy an object has no fields but those that are listed."""
    copy = deepcopy(document)
    for _, schema in nodes(copy["components"]["schemas"]):
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    return copy


def written(value: Any) -> bytes:
    """Write JSON the short way, as `x-max-bytes` counts it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _max_bytes(validator: Any, limit: int, instance: Any, schema: Any) -> Iterator[Any]:
    if len(written(instance)) > limit:
        yield ValidationError(f"more than {limit} bytes")


Validator = extend(Draft7Validator, {"x-max-bytes": _max_bytes})
formats = FormatChecker(formats=())


@formats.checks("date-time", raises=ValueError)
def _is_a_day(text: object) -> bool:
    """Check the rest of RFC 3339 beside our patterns: the month has the day."""
    return not isinstance(text, str) or bool(date.fromisoformat(text[:10]))


REGISTRIES = [
    Registry().with_resource("doc", Resource(contents=contents, specification=DRAFT7))
    for contents in (DOCUMENT, closed(DOCUMENT))
]


@cache
def validator(where: str, strict: bool) -> Any:
    """Make the validator of the schema there; a strict one allows only the listed fields."""
    return Validator({"$ref": f"doc#/{where}"}, registry=REGISTRIES[strict], format_checker=formats)


def error_in(where: str, instance: Any, *, strict: bool = False) -> str | None:
    """Validate against the schema there; return the error."""
    error = best_match(validator(where, strict).iter_errors(instance))
    return error and f"{error.json_path}: {error.message}"


def schema_error(name: str, instance: Any) -> str | None:
    return error_in(f"components/schemas/{name}", instance)


def payload_error(message: str, payload: bytes, *, strict: bool = False) -> str | None:
    """Validate a payload as it is on the wire against a message."""
    limit = MESSAGES[message].get("x-max-bytes")
    if limit is not None and len(payload) > limit:
        return f"more than {limit} bytes"
    instance = json.loads(payload) if content_type(message) == JSON else payload.decode()
    return error_in(f"components/messages/{message}/payload", instance, strict=strict)


def content_type(message: str) -> str:
    return MESSAGES[message].get("contentType", DOCUMENT["defaultContentType"])


def messages_of(channel: str) -> list[str]:
    """Name the messages of a channel."""
    names = [message["$ref"].rpartition("/")[2] for message in CHANNELS[channel]["messages"].values()]
    assert names == list(CHANNELS[channel]["messages"])
    return names


@dataclass(frozen=True)
class Operation:
    """The operation of a channel."""

    channel: str
    action: str
    qos: tuple[int, ...]
    retain: bool


def _operation(operation: dict[str, Any]) -> Operation:
    mqtt = resolve(operation["bindings"])["mqtt"]
    qos = tuple(mqtt.get("x-qos-allowed", [mqtt["qos"]]))
    assert mqtt["qos"] in qos
    return Operation(
        operation["channel"]["$ref"].rpartition("/")[2], operation["action"], qos, mqtt["retain"]
    )


OPERATIONS = {o.channel: o for o in map(_operation, DOCUMENT["operations"].values())}
INPUTS = {
    c: CHANNELS[c]["address"].rpartition("/")[2] for c, o in OPERATIONS.items() if o.action == "receive"
}
"""The channels that the bridge reads, and the verb of each."""


def which(topic: str, payload: bytes) -> tuple[str, str]:
    """Return the channel and the message of a publication."""
    found = [
        name
        for name, channel in CHANNELS.items()
        if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(channel["address"])), topic)
    ]
    assert len(found) == 1, (topic, found)
    (channel,) = found
    if channel == "event":
        return channel, topic.rpartition("/")[2]
    (message,) = (m for m in messages_of(channel) if (content_type(m) == JSON) == bool(payload))
    return channel, message


# The document by itself.


def test_document_is_valid_asyncapi() -> None:
    """The document is valid by the official schema of AsyncAPI 3.0, in the JSON Schema draft that the schema names."""
    assert validator_for(OFFICIAL) is Draft7Validator
    error = best_match(Draft7Validator(OFFICIAL).iter_errors(DOCUMENT))
    assert error is None, f"{error.json_path}: {error.message[:500]}"


def test_references_lead_somewhere_and_every_part_is_used() -> None:
    """A reference has a target and no siblings, which would be ignored; every component is used."""
    used = set()
    for path, node in nodes(DOCUMENT):
        if "$ref" in node:
            assert list(node) == ["$ref"], path
            resolve(node)
            used.add(node["$ref"])
    parts = {f"#/components/{kind}/{name}" for kind, of in DOCUMENT["components"].items() for name in of}
    assert parts <= used


def test_schemas_are_json_schema_without_slips() -> None:
    """Each schema is valid, and has no keyword that a validator would silently ignore."""
    known = {*Validator.VALIDATORS, "title", "description", "examples"}

    def look(schema: Any, path: str) -> None:
        if isinstance(schema, bool):
            return
        assert schema.keys() <= known, path
        for name, inner in schema.get("properties", {}).items():
            look(inner, f"{path}/{name}")
        for inner in (*schema.get("oneOf", ()), *schema.get("allOf", ()), schema.get("not", True)):
            look(inner, path)

    for name, schema in SCHEMAS.items():
        Draft7Validator.check_schema(schema)
        look(schema, name)
        for example in schema.get("examples", ()):
            assert schema_error(name, example) is None
    for name, message in MESSAGES.items():
        look(message["payload"], name)


@pytest.mark.parametrize("name", MESSAGES)
def test_message_has_examples_of_itself(name: str) -> None:
    """Each message is called by its name, and its examples are valid and have no field but the listed ones."""
    message = MESSAGES[name]
    assert message["name"] == name
    assert message["examples"]
    for example in message["examples"]:
        payload = written(example["payload"]) if content_type(name) == JSON else example["payload"].encode()
        assert payload_error(name, payload, strict=True) is None


def test_every_channel_has_one_operation_and_its_parameters() -> None:
    """A channel has one operation, with QoS and retain, and exactly the parameters of its address."""
    assert len(OPERATIONS) == len(DOCUMENT["operations"])
    assert OPERATIONS.keys() == CHANNELS.keys()
    for channel in CHANNELS.values():
        assert list(channel.get("parameters", {})) == re.findall(r"\{(\w+)\}", channel["address"])
    event = CHANNELS["event"]["parameters"]["event"]["enum"]
    assert event == messages_of("event")
    used = {message for channel in CHANNELS for message in messages_of(channel)}
    assert used == MESSAGES.keys()


# Topics.


def made_topics() -> set[str]:
    """Every topic that `Topics` can name, its parameters in braces."""
    prefixless = Topics()
    values: dict[str, Any] = {
        "user_id": ["{user}"],
        "client_id": ["{client}"],
        "verb": sorted(topics.VERBS),
        "name": ["{event}"],
    }
    topics_made = set()
    for name in (n for n in dir(prefixless) if not n.startswith(("_", "parse_", "is_")) and n != "prefix"):
        thing = getattr(prefixless, name)
        if isinstance(thing, bool) or name == "inputs_of":  # no topic, and a filter
            continue
        if isinstance(thing, str):
            topics_made |= set() if "+" in thing or thing.endswith("/") else {thing}  # a filter, or a prefix
            continue
        parameters = inspect.signature(thing).parameters.values()
        optional = {p.name: [p.default] for p in parameters if p.default is not p.empty}
        combinations: list[dict[str, str]] = [{}]
        for parameter in parameters:
            choices = optional.get(parameter.name) or values[parameter.name]
            combinations = [c | {parameter.name: choice} for c in combinations for choice in choices]
        topics_made |= {thing(**arguments) for arguments in combinations}
    return topics_made


def test_channels_are_the_topics_of_the_code() -> None:
    """The addresses are exactly those that `Topics` makes."""
    addresses = [channel["address"] for channel in CHANNELS.values()]
    assert sorted(addresses) == sorted(made_topics())
    assert {c for c, o in OPERATIONS.items() if o.action == "receive"} == {
        c for c, channel in CHANNELS.items() if channel["address"].startswith("presence/")
    }
    assert set(INPUTS.values()) == topics.VERBS


def test_events_are_those_of_the_code() -> None:
    """The values of the parameter `event` are the names that the rules use."""
    of_users = {name for names in status.STATE_EVENTS.values() for name in names}
    code = "".join(path.read_text("utf-8") for path in (ROOT / "mqtt_presence/rules").glob("*.py"))
    of_connections = set(re.findall(r'"(connection[A-Z]\w+)"', code))
    assert set(messages_of("event")) == of_users | of_connections | OUTAGE_EVENTS


texts = st.text(
    st.characters(exclude_categories=("Cs",))
    | st.sampled_from("/+#\0\x1f\n\x7f\x9f a\ufdd0\ufffe\U0001ffff\U0010fffe"),
    max_size=6,
)
long_texts = st.builds(lambda text, times: text * times, texts, st.sampled_from([1, 1, 10, 16, 32, 64, 129]))


@settings(deadline=None, max_examples=300)
@given(long_texts, st.sampled_from(["", "acme/", "a/b/"]))
def test_name_is_one_for_the_document_as_for_the_code(text: str, prefix: str) -> None:
    """The parameters allow the users and clients that `Topics` accepts, under any prefix."""
    named = Topics(prefix)
    allowed = schema_error("name", text) is None
    assert allowed == topics.is_name(text)
    for parameter in ("user", "client"):
        assert DOCUMENT["components"]["parameters"][parameter]["x-schema"]["$ref"].endswith("/name")
        for channel, verb in INPUTS.items():
            filled = {"user": "alice", "client": "phone"} | {parameter: text}
            topic = prefix + CHANNELS[channel]["address"].format(**filled)
            try:
                assert named.parse_input(topic) == (filled["user"], filled["client"], verb)
            except PayloadError:
                assert not allowed
            else:
                assert allowed
    status = prefix + CHANNELS["status"]["address"].format(user=text)
    assert named.parse_status(status) == (text if allowed else None)


# The document and docs/protocol.md.


def rows(heading: str, columns: int) -> list[list[str]]:
    """Return the rows of the first table below a heading of the protocol."""
    table = re.search(rf"^##+ {heading}\n.*?\n((?:\|[^\n]*\n)+)", PROTOCOL, re.DOTALL | re.MULTILINE)
    assert table is not None
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()[2:]]
    assert all(len(row) == columns for row in found)
    return found


def words(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def fields_of(message: str) -> set[str]:
    return set(resolve(MESSAGES[message]["payload"])["properties"])


def test_topics_are_as_in_the_protocol() -> None:
    """Topic, writer, QoS and retain are the same in both; and so is the version."""
    documented = {}
    for topic, writer, how, _ in rows("Topics", 4):
        qos, retain = how.split(", ")
        address = topic.strip("`").replace("<", "{").replace(">", "}")
        documented[address] = (
            "send" if writer.startswith("bridge") else "receive",
            tuple(int(n) for n in re.findall(r"\d", qos)),
            {"no": False, "**retained**": True}[retain],
        )
    assert documented == {CHANNELS[c]["address"]: (o.action, o.qos, o.retain) for c, o in OPERATIONS.items()}
    assert PROTOCOL.startswith(f"# The protocol, version {DOCUMENT['info']['version']}\n")


def test_fields_are_as_in_the_protocol() -> None:
    """The tables of fields list the fields of the schemas."""
    documented: dict[str, set[str]] = {}
    messages: list[str] = []
    for message, name, *_ in rows("Client messages", 4):
        messages = message.split(", ") if message else messages
        for verb in messages:
            documented.setdefault(verb, set()).update(words(name))
    assert documented == {verb: fields_of(messages_of(channel)[0]) for channel, verb in INPUTS.items()}
    assert {words(name)[0] for name, _ in rows("The user's status", 2)} == fields_of("status")
    for events, _, names in rows("Events", 3):
        for event in words(events):
            fields = set(words(re.sub(r"\(.*?\)", "", names))) | {"userId"}
            assert fields == fields_of(event), event


def test_words_are_those_of_the_code() -> None:
    """States, reasons and causes are the enumerations of the model."""
    logout = SCHEMAS["connectionLogout"]["properties"]
    assert SCHEMAS["status"]["properties"]["state"]["enum"] == [*State]
    assert logout["reason"]["enum"] == [*Reason]
    assert logout["cause"]["enum"] == [*Cause]
    assert SCHEMAS["bridgeState"]["properties"]["state"]["enum"] == [*client_messages.BridgeStateName]


def test_limits_are_those_of_the_code() -> None:
    """Each limit is the constant of the parser."""
    for channel in INPUTS:
        for message in messages_of(channel):
            limit = MESSAGES[message].get("x-max-bytes")
            assert limit == (sizes.MAX_PAYLOAD if content_type(message) == JSON else None)
    assert SCHEMAS["login"]["properties"]["meta"]["x-max-bytes"] == sizes.MAX_META
    assert SCHEMAS["timeRequest"]["properties"]["t0"]["x-max-bytes"] == sizes.MAX_T0
    assert SCHEMAS["connectionId"]["maxLength"] == sizes.MAX_CONNECTION_ID
    assert SCHEMAS["name"]["maxLength"] == topics.MAX_NAME
    assert SCHEMAS["duration"]["maximum"] == sizes.MAX_DURATION_S
    assert SCHEMAS["clientTime"]["oneOf"][0]["exclusiveMaximum"] == LATEST + 1
    assert SCHEMAS["millis"]["maximum"] == LATEST
    assert f"(`x-max-bytes: {sizes.MAX_PAYLOAD}`)" in DOCUMENT["info"]["description"]


def test_servers_are_the_schemes_of_a_broker_url() -> None:
    """The servers are the schemes of `--broker`, and the description of the bridge's connection is true."""
    servers = DOCUMENT["servers"]
    assert servers.keys() == DEFAULT_PORTS.keys() == {server["protocol"] for server in servers.values()}
    for scheme in ("mqtt", "mqtts"):
        assert servers[scheme]["variables"]["port"]["default"] == str(DEFAULT_PORTS[scheme])
    for scheme in ("ws", "wss"):
        assert servers[scheme]["pathname"] == DEFAULT_PATH
    assert servers["ws"]["variables"]["port"]["default"] == SETTINGS["ws_port"].default
    bridge = DOCUMENT["components"]["serverBindings"]["bridge"]["mqtt"]
    assert str(bridge["keepAlive"]) == SETTINGS["keep_alive"].default
    will = bridge["lastWill"]
    assert which(will["topic"], will["message"].encode()) == ("bridgeState", "bridgeState")
    assert payload_error("bridgeState", will["message"].encode(), strict=True) is None
    assert (will["qos"],) == OPERATIONS["bridgeState"].qos
    assert will["retain"] == OPERATIONS["bridgeState"].retain


# Client messages: the document and the parser accept and refuse the same.


def is_accepted(verb: str, payload: bytes) -> bool:
    try:
        incoming.parse(topics.Input("alice", "phone", verb), payload, NOW)
    except PayloadError:
        return False
    return True


def agree(channel: str, payload: bytes) -> bool:
    """Return whether a payload is accepted; parser and document must agree."""
    message = which(CHANNELS[channel]["address"].format(user="u", client="c"), payload)[1]
    error = payload_error(message, payload)
    accepted = is_accepted(INPUTS[channel], payload)
    assert (error is None) == accepted, (payload, error)
    return accepted


@pytest.mark.parametrize("channel", INPUTS)
def test_examples_of_clients_are_accepted(channel: str) -> None:
    """The parser accepts the document's examples of client messages, and an empty payload."""
    assert agree(channel, b"")
    for message in messages_of(channel):
        for example in MESSAGES[message]["examples"]:
            assert agree(channel, written(example["payload"]) if content_type(message) == JSON else b"")


REFUSED: list[tuple[str, str, Any]] = [
    *(
        (c, "connectionId", v)
        for c in ("login", "activity", "logout", "will")
        for v in ("", "x" * 65, "a\n", 1, [])
    ),
    *(
        (c, f, v)
        for c, f in (("login", "time"), ("activity", "lastActivity"))
        for v in (
            -1,
            LATEST + 1,
            True,
            [],
            "",
            "now",
            "2026-11-25",
            "2026-11-25T12:00:00",
            "2026-02-30T12:00:00Z",
        )
    ),
    *(("login", f, v) for f in ("idleThreshold", "timeout") for v in (-0.001, 315360000.5, "60", True)),
    *(("login", "userAgent", v) for v in (1, True, {})),
    *(("login", "announce", v) for v in (0, 1, "true")),
    *(("activity", "idle", v) for v in (0, 1, "true")),
    *(("login", "meta", v) for v in ("x", [], 1, {"a": "x" * 2041}, {"é": "é" * 1020})),
    *(("timeRequest", "t0", v) for v in ("x" * 63, "é" * 32, [1] * 33)),
]


@pytest.mark.parametrize(("channel", "name", "value"), REFUSED, ids=lambda part: ascii(part)[:30])
def test_wrong_field_is_refused_by_both(channel: str, name: str, value: Any) -> None:
    """Document and parser refuse wrong types, and values that are too long or out of range."""
    assert not agree(channel, written({name: value}))


@pytest.mark.parametrize("payload", [b"null", b"1", b'"x"', b"[]", b"true"])
@pytest.mark.parametrize("channel", INPUTS)
def test_json_that_is_no_object_is_refused_by_both(channel: str, payload: bytes) -> None:
    """Only an object is accepted."""
    assert not agree(channel, payload)


@pytest.mark.parametrize("channel", INPUTS)
def test_most_that_a_payload_may_have_is_the_same_for_both(channel: str) -> None:
    """8 KiB are accepted, a byte more is not."""
    most = written({"x": "a" * (sizes.MAX_PAYLOAD - len(written({"x": ""})))})
    assert agree(channel, most)
    assert not agree(channel, most + b" ")


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
# Not those of 1970 and 9999 that depend on the offset: test_document_cannot_say_where_time_ends.
YEARS, MONTHS = ("2024", "1971", "9998", "1900", "10000", "26"), ("02", "01", "12", "00", "13", "1")
DAYS, HOURS = ("28", "29", "30", "31", "32", "00", "1"), ("12", "00", "23", "25", "1")
MINUTES, SECONDS = ("00", "59", "60", "1"), ("59", "00", "60", "61", "1")
FRACTIONS, OFFSETS = (
    ("", ".5", ".363", ".123456789", ".x"),
    ("Z", "-05:30", "+23:59", "+24:00", "+25:00", "", "+1:00"),
)


@st.composite
def iso(draw: st.DrawFn) -> str:
    """Write a time in ISO 8601 of which at most two parts may be wrong."""
    parts = [YEARS, MONTHS, DAYS, HOURS, MINUTES, SECONDS, FRACTIONS, OFFSETS]
    odd = draw(st.sets(st.integers(0, len(parts) - 1), max_size=2))
    chosen = [draw(st.sampled_from(of)) if n in odd else of[0] for n, of in enumerate(parts)]
    return "{}-{}-{}T{}:{}:{}{}{}".format(*chosen)


moments = st.integers(31_536_000, 253_370_764_799).map(  # 1971 to 9998
    lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
)
times = (
    st.integers(-2, LATEST + 2)
    | st.sampled_from([0, LATEST, LATEST + 1, LATEST + 0.5, -0.5])
    | st.builds(str.__add__, moments, st.sampled_from(["Z", "+01:00", "-05:30", ""]))
    | iso()
)
durations = (
    st.floats(-1, 4e8) | st.integers(-1, 315_360_001) | st.sampled_from([0, 315_360_000, 315_360_000.001])
)
lengths = st.sampled_from([0, 1, 60, 61, 62, 63, 64, 2_030, 2_039, 2_040, 2_041])
values: dict[str, st.SearchStrategy[Any]] = {
    "connectionId": long_texts,
    "time": times,
    "lastActivity": times,
    "userAgent": texts,
    "idleThreshold": durations,
    "timeout": durations,
    "announce": st.booleans(),
    "idle": st.booleans(),
    "meta": st.dictionaries(texts, anything, max_size=3) | lengths.map(lambda n: {"a": "x" * n}),
    "t0": anything | lengths.map(lambda n: "x" * n) | lengths.map(lambda n: "é" * (n // 2)),
    "userId": anything,
}


@st.composite
def client_messages_of_any_kind(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """Make a client's message: mostly values of the right kind, which may be too long, too large or malformed."""
    channel = draw(st.sampled_from(sorted(INPUTS)))
    known = sorted({*fields_of(messages_of(channel)[0]), "userId"})
    names = draw(st.lists(st.sampled_from(known), max_size=4, unique=True))
    return channel, {n: draw(anything if draw(st.integers(0, 9)) == 0 else values[n]) for n in names}


@settings(deadline=None, max_examples=300, database=None, derandomize=True)
@given(iso())
def test_parser_and_document_agree_on_times(time: str) -> None:
    """A time in the document's form is accepted; a time with a part that no clock shows is not."""
    agree("login", written({"time": time}))


def test_parser_and_document_agree_on_any_message() -> None:
    """A client's message is valid by the document if and only if the parser accepts it."""
    verdicts: Counter[tuple[str, bool]] = Counter()

    @settings(deadline=None, max_examples=400, database=None, derandomize=True)
    @given(client_messages_of_any_kind())
    def any_message(message: tuple[str, dict[str, Any]]) -> None:
        channel, payload = message
        verdicts[channel, agree(channel, written(payload))] += 1

    any_message()
    assert all(verdicts[channel, accepted] >= 5 for channel in INPUTS for accepted in (True, False)), verdicts


@pytest.mark.parametrize(
    "time",
    [
        "20261125T025339Z",
        "2026-W48-3T02:53:39Z",
        "2026-11-25 02:53:39+01:00",
        "2026-11-25T02:53Z",
        "1969-12-31T23:59:59-01:00",
    ],
)
def test_parser_reads_more_of_iso_8601_than_the_document_says(time: str) -> None:
    """The parser also accepts the other forms of ISO 8601, and the last hours of 1969 by an offset."""
    assert schema_error("clientTime", time) is not None
    assert is_accepted("login", written({"time": time}))


@pytest.mark.parametrize("time", ["1970-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01"])
def test_document_cannot_say_where_time_ends(time: str) -> None:
    """Times before 1970 and after 9999 only by their offset are valid by the pattern, and refused, as documented."""
    assert schema_error("clientTime", time) is None
    assert not is_accepted("login", written({"time": time}))
    assert "for every offset" in SCHEMAS["clientTime"]["description"]


@settings(deadline=None, max_examples=50)
@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=64),
    st.none() | st.integers(0, LATEST),
    st.none() | texts,
    st.none() | st.floats(0, sizes.MAX_DURATION_S),
    st.none() | st.booleans(),
)
def test_our_own_clients_send_what_the_document_says(
    connection_id: str, time: int | None, agent: str | None, seconds: float | None, yes: bool | None
) -> None:
    """The messages of `PresenceClient` are valid, and have only the listed fields."""
    login = client_messages.encode_login(
        connection_id,
        time=time,
        user_agent=agent,
        idle_threshold=seconds,
        timeout=seconds,
        announce=bool(yes),
        meta=client_messages.encode_meta({"agent": agent}),
    )
    activity = client_messages.encode_activity(connection_id, idle=yes, last_activity=time)
    assert payload_error("login", login, strict=True) is None
    assert payload_error("activity", activity, strict=True) is None
    for end in ("logout", "will"):
        assert payload_error(end, client_messages.encode_end(connection_id), strict=True) is None
    assert payload_error("timeRequest", client_messages.encode_time_request(time or 0), strict=True) is None


# The bridge's messages.


@dataclass
class Tally:
    """Validates publications by the document, and counts their fields."""

    messages: Counter[str] = field(default_factory=Counter)
    fields: dict[str, Counter[str]] = field(default_factory=dict)

    def take(self, topic: str, payload: bytes, retain: bool) -> None:
        channel, message = which(topic, payload)
        assert payload_error(message, payload, strict=True) is None, payload
        assert OPERATIONS[channel].retain is retain
        assert OPERATIONS[channel].action == "send"
        if content_type(message) == JSON:
            fields = json.loads(payload)
            assert fields.get("userId", "alice") == "alice"
            self._count(message, fields)

    def _count(self, what: str, fields: Mapping[str, Any]) -> None:
        self.messages[what] += 1
        self.fields.setdefault(what, Counter()).update(fields.keys())
        for name, inner in fields.items():
            if isinstance(inner, dict) and name != "t0":
                self._count(f"{what}.{name}", inner)

    def assert_whole(self, what: str, schema: dict[str, Any]) -> None:
        """Every listed field was seen, required fields in each message, and no other field."""
        properties = schema.get("properties", {})
        came = self.fields[what]
        assert came.keys() == properties.keys(), what
        assert {n for n in came if came[n] == self.messages[what]} == set(schema.get("required", ())), what
        for name, inner in properties.items():
            if inner.get("type") == "object":
                self.assert_whole(f"{what}.{name}", inner)


START = 1_800_000_000_000
stamps = st.sampled_from([None, START - 2_500, START - 500, START, START + 1_000, START + 9_000])
who: dict[str, Any] = {"user_id": st.just("alice"), "now": st.just(START)}
client: dict[str, Any] = who | {"client_id": st.sampled_from(["phone", "tablet"])}
named: dict[str, Any] = client | {"connection_id": st.sampled_from(["c1", "c2", None])}
came: dict[str, Any] = named | {
    "fresh_id": st.sampled_from(["made up 1", "made up 2", "made up 3"]),
    "network_id": st.sampled_from([None, 1, 2]),
    "ip_addr": st.sampled_from([None, "192.0.2.7", "2001:db8::7"]),
}
logins = st.builds(
    Login,
    **came,
    time=stamps,
    user_agent=st.sampled_from([None, "", "demo/1.0"]),
    announce=st.booleans(),
)
activities = st.builds(Activity, **came, idle=st.sampled_from([None, True, False]), last_activity=stamps)
what_is_told = (
    logins
    | activities
    | st.builds(End, **named, reason=st.sampled_from([Reason.LOGOUT, Reason.LOST]))
    | st.builds(
        NetworkClosed,
        **client,
        network_id=st.sampled_from([1, 2]),
        cause=st.sampled_from(Cause),
        reason=st.sampled_from([Reason.LOGOUT, Reason.LOST, None]),
    )
    | st.builds(CheckDeadlines, **who)
    | st.builds(ClockSteppedBack, **who)
    | st.builds(EndUnconfirmed, **who, announced_at=st.sampled_from([START + 1_000, START + 9_000]))
)
elapsed = st.sampled_from([0, 1, 500, 1_001, 3_001])


def received(delayed: list[tuple[int, Event]]) -> list[Event]:
    """Stamp each event with its receipt, so many milliseconds after the previous one."""
    moments = accumulate((after for after, _ in delayed), initial=START)
    return [replace(event, now=now) for (_, event), now in zip(delayed, list(moments)[1:], strict=True)]


histories = st.lists(st.tuples(elapsed, what_is_told), min_size=1, max_size=12).map(received)


def published(
    history: list[Event], rule_settings: RuleSettings, *, batch: bool, private: bool
) -> Iterator[Publication]:
    """Play a history through the rules, and yield the bridge's publications."""
    user = UserPresence(user_id="alice")
    for events in [history] if batch else [[event] for event in history]:
        outcome = fold(user, events, rule_settings)
        user = outcome.user
        yield from outcome_publications(outcome, Topics(), private=private)


def test_statuses_and_events_are_what_the_document_says() -> None:
    """Any history gives valid statuses and events; each optional field appears at times, each required field always."""
    tally = Tally()

    @settings(deadline=None, max_examples=500, database=None, derandomize=True)
    @given(
        histories,
        st.builds(
            RuleSettings,
            idle_threshold_ms=st.just(1_000),
            expire_after_ms=st.sampled_from([None, 2_000]),
            grace_ms=st.sampled_from([0, 1_500]),
        ),
        st.booleans(),
        st.booleans(),
    )
    def any_history(history: list[Event], rule_settings: RuleSettings, batch: bool, private: bool) -> None:
        for publication in published(history, rule_settings, batch=batch, private=private):
            tally.take(publication.topic, publication.payload, publication.retain)

    any_history()
    # The command `check` tests a broker with the smallest possible status.
    probe = status_of_the_check(SimpleNamespace(names=SimpleNamespace(invented_user="alice")), 1)
    tally.take(Topics().status("alice"), probe, retain=True)
    for event in OUTAGE_EVENTS:
        for count in (None, 0, 7):
            payload = outgoing.encode_outage("alice", "flaps > 5/h", since=START, time=START + 5, count=count)
            tally.take(Topics().event("alice", event), payload, retain=False)
    for message in ("status", *messages_of("event")):
        tally.assert_whole(message, resolve(MESSAGES[message]["payload"]))


@settings(deadline=None, max_examples=100)
@given(anything, st.integers(0, LATEST), st.integers(0, LATEST))
def test_time_replies_are_what_the_document_says(t0: Any, received: int, sent: int) -> None:
    """For any request, the reply is valid and returns its value."""
    for payload in (b"", written({"t0": t0})):
        try:
            request = incoming.parse(topics.Input("alice", "phone", topics.TIME), payload, received)
        except PayloadError:
            continue  # longer than 64 bytes
        assert isinstance(request, incoming.TimeRequest)
        tally = Tally()
        tally.take(Topics().reply("alice", "phone"), outgoing.encode_time_reply(request, sent), retain=False)
        tally.assert_whole("timeReply", SCHEMAS["timeReply"])


def test_our_own_clients_read_the_examples() -> None:
    """`StatusWatcher` and `PresenceClient` read the document's examples of the bridge's messages."""
    for name, read in (
        ("status", lambda payload: client_messages.decode_status("alice", payload)),
        ("bridgeState", client_messages.decode_bridge_state),
        ("timeReply", client_messages.decode_time_reply),
    ):
        for example in MESSAGES[name]["examples"]:
            assert read(written(example["payload"]))


def test_all_that_is_on_the_wire_is_in_the_document(mosquitto: Mosquitto, sqlite_url: str) -> None:
    """Bridge and clients on a real broker: every topic is a channel, with its QoS, its retain flag, its payloads."""
    recorder = mosquitto.recorder("#")
    with BridgeThread(broker=mosquitto.url, database=sqlite_url):
        will = ("presence/alice/phone/will", b'{"connectionId":"c1"}')
        phone = mosquitto.client("alice", "phone", will=will)
        login = b'{"connectionId":"c1","announce":true,"userAgent":"demo/1.0"}'
        phone.publish("presence/alice/phone/login", login)
        mosquitto.say("alice", "phone", "activity", b'{"connectionId":"c1","idle":true}')
        mosquitto.say("alice", "phone", "activity", b"", qos=0)
        mosquitto.say("alice", "phone", "time", b'{"t0":17}', qos=0)
        recorder.wait_for(lambda: recorder.on("reply/alice/phone/time"), "the time")
        phone.close()
        recorder.wait_for_state("alice", "offline")
        mosquitto.say("bob", "phone", "login")
        mosquitto.say("bob", "phone", "logout")
        recorder.wait_for_state("bob", "offline")
        store = Store(sqlite_url)
        with store.transaction() as tx:
            tx.forget("bob")
        store.close()
        recorder.wait_for(lambda: not recorder.on("status/bob")[-1].payload, "bob is forgotten")
        recorder.wait_for(lambda: recorder.on("bridge/announce"), "the announcement")
        late = mosquitto.recorder("#")
        settle(mosquitto, late, "late")
    recorder.wait_for(lambda: recorder.last("bridge/state")["state"] == "offline", "the bridge is gone")

    def channel_of(heard: Heard) -> str:
        channel, message = which(heard.topic, heard.payload)
        assert payload_error(message, heard.payload, strict=True) is None, heard
        assert heard.qos in OPERATIONS[channel].qos, heard
        assert heard.retained <= OPERATIONS[channel].retain, heard
        return channel

    assert {channel_of(heard) for heard in recorder.heard} == CHANNELS.keys()
    assert not any(heard.retained for heard in recorder.heard)  # it was there before
    assert {channel_of(heard) for heard in late.heard if heard.retained} == {
        channel for channel, operation in OPERATIONS.items() if operation.retain
    }
    assert "bob" not in late.statuses()
