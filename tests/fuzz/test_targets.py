"""The fuzz targets, run by Hypothesis and on the stored inputs; `make fuzz` runs them longer with atheris."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqtt_presence.errors import PayloadError
from mqtt_presence.protocol import client_messages, incoming, topics
from mqtt_presence.rules.events import Activity, End, Login
from tests.fuzz.targets import NOW, SEEDS, TARGETS

fuzzing = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@st.composite
def near(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with some bytes cut, changed or doubled."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["cut", "put", "flip", "double"])):
            case "cut":
                del data[at : at + draw(st.integers(1, 8))]
            case "put":
                data[at:at] = draw(st.binary(max_size=6))
            case "flip" if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "double":
                data[at:at] = data[max(0, at - 12) : at]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_pass(name: str) -> None:
    """The first inputs and the inputs that found errors pass."""
    for seed in (b"", *SEEDS[name]):
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_anything_passes(name: str) -> None:
    """Random bytes and mutated seeds pass."""

    @fuzzing
    @given(st.binary(max_size=200) | near(SEEDS[name]))
    def run(data: bytes) -> None:
        TARGETS[name](data)

    run()


# Round trips.

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=64)
times = st.none() | st.integers(0, 253_402_300_799_999)
durations = st.none() | st.integers(1, 315_360_000_000).map(lambda ms: ms / 1000)


def read(verb: str, body: bytes) -> object:
    return incoming.parse(topics.Input(topics.UserId("alice"), topics.ClientId("phone"), verb), body, NOW)


logins = st.fixed_dictionaries(
    {
        "connection_id": texts,
        "time": times,
        "user_agent": st.none() | texts,
        "idle_threshold": durations,
        "timeout": durations,
        "announce": st.booleans(),
    }
)


@fuzzing
@given(logins, st.none() | st.dictionaries(texts, json_values, max_size=3))
def test_login_round_trip_is_exact(login, meta) -> None:
    """The bridge reads each field as the client wrote it, times to the millisecond."""
    packed = None if meta is None else client_messages.encode_meta(meta)
    event = read("login", client_messages.encode_login(**login, meta=packed))
    assert isinstance(event, Login)
    for name in ("connection_id", "time", "user_agent", "announce"):
        assert getattr(event, name) == login[name]
    for name in ("idle_threshold", "timeout"):
        said = login[name]
        assert getattr(event, f"{name}_ms") == (None if said is None else round(said * 1000))
    assert event.meta == (None if packed is None else packed.decode())
    assert meta is None or json.loads(event.meta or "") == meta


@fuzzing
@given(texts, st.none() | st.booleans(), times)
def test_activity_and_end_round_trips_are_exact(connection_id, idle, last_activity) -> None:
    """The same for the smaller messages."""
    event = read(
        "activity", client_messages.encode_activity(connection_id, idle=idle, last_activity=last_activity)
    )
    assert isinstance(event, Activity)
    assert (event.connection_id, event.idle, event.last_activity) == (connection_id, idle, last_activity)
    for verb in ("logout", "will"):
        end = read(verb, client_messages.encode_end(connection_id))
        assert isinstance(end, End)
        assert end.connection_id == connection_id


@fuzzing
@given(st.binary(max_size=40))
def test_bytes_that_are_no_utf_8_are_never_taken(junk: bytes) -> None:
    """Wherever in a payload they are, also in a field that nobody knows."""
    try:
        junk.decode()
    except UnicodeDecodeError:
        pass
    else:
        return
    if b'"' in junk or b"\\" in junk:
        return
    for body in (b'{"x":"%s"}', b'{"%s":1}', b'{"meta":{"x":"%s"}}', b'{"connectionId":"%s"}'):
        for verb in ("login", "activity", "will", "time"):
            with pytest.raises(PayloadError):
                read(verb, body % junk)
