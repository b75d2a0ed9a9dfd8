"""The topic names (docs/protocol.md, "Topics")."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqtt_presence.errors import ConfigError, PayloadError
from mqtt_presence.protocol import topics as topics_module
from mqtt_presence.protocol.topics import MAX_NAME, VERBS, Input, Topics, is_name, is_safe, require_name

GOOD_NAMES = [
    "a",
    "alice",
    "x" * MAX_NAME,
    "é",
    "𝄞" * MAX_NAME,
    "a b",
    "$x",
    "a.b@c",
    "-",
    "..",
    "\u200d",
    "presence",
]
BAD_NAMES = [
    "",
    "x" * (MAX_NAME + 1),
    "a/b",
    "/",
    "+",
    "a+b",
    "#",
    "a#",
    "a\0b",
    "\n",
    "a\x1f",
    "\x7f",
    "\x85",
    "\x9f",
    "\ud800",
    "\ufdd0",
    "a\ufdef",
    *(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)),
]
names = st.text(
    st.characters(exclude_characters="/+#", exclude_categories=("Cc", "Cs")).filter(is_safe),
    min_size=1,
    max_size=MAX_NAME,
)
prefixes = st.lists(names.filter(lambda level: not level.startswith("$")), max_size=3).map(
    lambda levels: "".join(level + "/" for level in levels)
)
quick = settings(deadline=None, max_examples=150)


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_name_of_1_to_128_characters_is_good(name: str) -> None:
    """Any 1 to 128 characters name a user or client, except those with a meaning in MQTT."""
    assert is_name(name)
    assert require_name("user", name) == name
    assert Topics().parse_input(f"presence/{name}/{name}/login") == Input(name, name, "login")


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_name_of_another_shape_is_refused(name: str) -> None:
    """Empty, too long, a wildcard, a slash, a control character: refused as a setting and as a topic."""
    assert not is_name(name)
    with pytest.raises(ConfigError, match=r"^user="):
        require_name("user", name)
    for topic in (f"presence/{name}/c/login", f"presence/u/{name}/login"):
        with pytest.raises(PayloadError) as refused:
            Topics().parse_input(topic)
        assert refused.value.reason == "bad_topic"
    assert Topics().parse_status(f"status/{name}") is None


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "presence",
        "presence/",
        "presence/a",
        "presence/a/b",
        "presence/a/b/",
        "presence/a/b/login/",
        "presence/a/b/c/login",
        "presence//b/login",
        "presence/a//login",
        "/presence/a/b/login",
        "presence/a/b/Login",
        "presence/a/b/reply",
        "presence/a/b/status",
        "presence/a/b/+",
        "Presence/a/b/login",
        "status/a",
        "events/a/b/login",
        "bridge/state",
        "acme/presence/a/b/login",
        "presence/a/b/login\0",
    ],
    ids=ascii,
)
def test_topic_of_another_shape_is_refused(topic: str) -> None:
    """Only `presence/<user>/<client>/<verb>` is an input, to the letter."""
    with pytest.raises(PayloadError) as refused:
        Topics().parse_input(topic)
    assert refused.value.reason == "bad_topic"
    assert refused.value.detail.isascii()
    assert len(refused.value.detail) < 4_000


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_documented_verb_is_an_input(verb: str) -> None:
    """Clients publish login, activity, logout, will and time."""
    assert Topics().parse_input(f"presence/alice/phone/{verb}") == Input("alice", "phone", verb)


def test_verbs_are_the_documented_ones() -> None:
    """The code knows no other verb."""
    assert {"login", "activity", "logout", "will", "time"} == VERBS


@pytest.mark.parametrize("given_prefix", ["acme/", "acme", "acme/site 1/", ""])
def test_topics_are_the_documented_ones_under_any_prefix(given_prefix: str) -> None:
    """Every documented topic is built letter by letter, with a prefix that ends in a slash or not."""
    topics = Topics(given_prefix)
    p = given_prefix + "/" if given_prefix and not given_prefix.endswith("/") else given_prefix
    assert topics.prefix == p
    assert topics.input("alice", "phone", "login") == p + "presence/alice/phone/login"
    assert topics.reply("alice", "phone") == p + "reply/alice/phone/time"
    assert topics.status("alice") == p + "status/alice"
    assert topics.event("alice", "userOnline") == p + "events/alice/userOnline"
    assert topics.bridge_state == p + "bridge/state"
    assert topics.bridge_announce == p + "bridge/announce"
    assert topics.bridge_health == p + "bridge/health"
    assert topics.inputs == p + "presence/+/+/+"
    assert topics.statuses == p + "status/+"
    assert topics.events == p + "events/+/+"


@pytest.mark.parametrize(
    "prefix",
    [
        *(
            "/",
            "/acme/",
            "acme//",
            "a//b/",
            "+/",
            "a/#",
            "a+/",
            "$SYS/",
            "$share/x/",
            "a\0/",
            "a\n/",
            "\ud800/",
        ),
        *("\uffff/", "a\ufdd0/", "a/\U0001fffe/"),
    ],
    ids=ascii,
)
def test_wrong_prefix_is_refused(prefix: str) -> None:
    """Wildcards, empty levels, `$` and control characters are refused in a prefix, with an error message."""
    with pytest.raises(ConfigError, match=r"^prefix="):
        Topics(prefix)


def test_topics_of_another_prefix_are_not_ours() -> None:
    """With a prefix the bare topics are refused, and without one the prefixed topics."""
    for topics, topic in ((Topics("acme/"), "presence/a/b/login"), (Topics(), "acme/presence/a/b/login")):
        with pytest.raises(PayloadError):
            topics.parse_input(topic)
    assert Topics("acme/").parse_status("status/a") is None
    assert Topics().parse_status("acme/status/a") is None


@pytest.mark.parametrize(
    "topic", ["", "status", "status/", "status/a/b", "bridge/state", "events/a/userIdle", "Status/a"]
)
def test_parse_status_knows_other_topics(topic: str) -> None:
    """Only `status/<user>` has a user."""
    assert Topics().parse_status(topic) is None


@quick
@given(prefixes, names, names, st.sampled_from(sorted(VERBS)))
def test_input_topic_round_trip_is_exact(prefix: str, user: str, client: str, verb: str) -> None:
    """Parsing a built topic returns its names."""
    topics = Topics(prefix)
    assert topics.parse_input(topics.input(user, client, verb)) == Input(user, client, verb)
    assert topics.parse_status(topics.status(user)) == user
    assert len(topics.status(user).encode()) < 65_536


@quick
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(["presence", "a", "login", "", "+", "#", "\0"]), max_size=6).map("/".join)
)
def test_parse_input_raises_nothing_but_payload_error(topic: str) -> None:
    """Any text is an input topic or refused; an accepted topic equals the topic built from its names."""
    topics = Topics()
    try:
        name = topics.parse_input(topic)
    except PayloadError:
        return
    assert topics.input(*name) == topic
    assert is_name(name.user_id)
    assert is_name(name.client_id)


def test_a_short_cut_for_ascii_changes_no_verdict() -> None:
    """Most names and topics are printable ASCII; each single character has the verdict of the full rule."""
    for code in range(0x110000):
        if not 0xD800 <= code < 0xE000:
            character = chr(code)
            expected = topics_module._UNSAFE.search(character) is None
            assert is_safe(character) == expected
            assert is_name(character) == (expected and character not in "/+#")


def test_seat_inputs_are_read_as_the_clients_topics() -> None:
    """A broker that moves messages by user gives each seat topics of its own; the names in them stay."""
    topics = Topics("acme/", "shard/{seat}")
    assert topics.inputs_of(2) == "shard/2/+/+/+"
    assert topics.inputs == "shard/+/+/+/+"
    for topic in (
        "shard/2/alice/phone/login",
        "shard/63/alice/phone/login",
        "acme/presence/alice/phone/login",
    ):
        assert topics.is_input(topic)
        assert topics.parse_input(topic) == ("alice", "phone", "login")
    assert topics.input("alice", "phone", "login") == "acme/presence/alice/phone/login"
    assert topics.status("alice") == "acme/status/alice"


@pytest.mark.parametrize(
    "topic", ["shard/x/alice/phone/login", "shard//alice/phone/login", "shard/2/alice/phone"]
)
def test_seat_inputs_of_another_shape_are_refused(topic: str) -> None:
    """A topic without a seat's number, or with missing levels, names nobody."""
    with pytest.raises(PayloadError):
        Topics("", "shard/{seat}/").parse_input(topic)


@pytest.mark.parametrize("prefix", ["", "acme/"])
def test_without_seat_inputs_all_seats_have_one_filter(prefix: str) -> None:
    """The clients' own topics."""
    topics = Topics(prefix)
    assert topics.inputs_of(0) == topics.inputs_of(7) == topics.inputs == f"{prefix}presence/+/+/+"
    assert not topics.is_input("shard/2/alice/phone/login")


@pytest.mark.parametrize(
    ("seat_inputs", "error"),
    [
        ("shard/", "one of its levels"),
        ("shard-{seat}/", "one of its levels"),
        ("{seat}/", "one of its levels"),
        ("a/{seat}/{seat}/", "one of its levels"),
        ("a/{seat}/b{seat}", "one of its levels"),
        ("shard/+/{seat}/", "without wildcards"),
        ("$shard/{seat}/", "not begin with"),
        ("/{seat}/", "empty levels"),
        ("acme/presence/{seat}/", "must be apart"),
        ("acme/status/{seat}/", "must be apart"),
    ],
)
def test_wrong_seat_inputs_are_refused(seat_inputs: str, error: str) -> None:
    """The message names the fault."""
    with pytest.raises(ConfigError, match=error):
        Topics("acme/", seat_inputs)
