"""Two spellings of one address, host or origin are one thing, wherever they are counted or compared."""

import pytest

from mqtt_presence.access.password_attempts import PasswordAttempts
from mqtt_presence.embedded.transports import address_of
from mqtt_presence.mqtt.addresses import (
    is_local_name,
    is_loopback,
    local_address,
    network_of,
    plain_address,
    plain_origin,
)
from mqtt_presence.mqtt.url import BrokerUrl


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::FFFF:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("0:0:0:0:0:ffff:192.0.2.7", "192.0.2.7"),
        ("[::ffff:192.0.2.7]", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8:0:0::7]", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("192.0.2.07", "192.0.2.07"),
        ("unknown", "unknown"),
        ("", ""),
    ],
)
def test_address_has_one_spelling(spelled: str, plain: str) -> None:
    """A text that is no address stays as it is."""
    assert plain_address(spelled) == plain
    assert address_of((spelled, 1883)) == plain


@pytest.mark.parametrize("spelled", ["::ffff:192.0.2.7", "::FFFF:C000:207", "[::ffff:192.0.2.7]"])
def test_wrong_passwords_count_together(spelled: str) -> None:
    """No spelling of an address gives more guesses."""
    assert network_of(spelled) == network_of("192.0.2.7") == "192.0.2.7"
    guesses = PasswordAttempts()
    while guesses.may_try("alice", "192.0.2.7", 0.0):
        guesses.begin("alice", "192.0.2.7", 0.0)
    assert not guesses.may_try("alice", spelled, 0.0)
    assert guesses.may_try("alice", "192.0.2.8", 0.0)
    assert network_of("2001:DB8::7") == network_of("[2001:db8:0:0:1::]") == "2001:db8::/64"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[0:0:0:0:0:0:0:1]", True),
        ("::ffff:127.0.0.1", True),
        ("LOCALHOST", True),
        ("localhost.", True),
        ("localhost.example", False),
        ("192.0.2.7", False),
        ("::ffff:192.0.2.7", False),
        ("127.0.0.1.example", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback_has_many_spellings(host: str | None, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours


def test_local_names() -> None:
    """Browsers take these for this machine, whatever DNS says (RFC 6761 §6.3)."""
    assert is_local_name("app.LOCALHOST")
    assert not is_local_name("applocalhost")


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::", "::1"),
        ("[::]", "::1"),
        ("0:0::0", "::1"),
        ("192.0.2.7", "192.0.2.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("box.example", "box.example"),
    ],
)
def test_this_machine_finds_what_listens(host: str, found: str) -> None:
    """Wherever it listens, all addresses included."""
    assert local_address(host) == found


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ("https://Presence.Example", "https://presence.example"),
        ("HTTPS://presence.example:443", "https://presence.example"),
        ("http://presence.example:80", "http://presence.example"),
        ("http://presence.example:443", "http://presence.example:443"),
        ("http://[0:0::1]:8080", "http://[::1]:8080"),
        ("https://presence.example/", None),
        ("https://alice@presence.example", None),
        ("https://presence.example:x", None),
        ("http://[", None),
        ("file://presence.example", None),
        ("null", None),
        ("", None),
    ],
)
def test_origin_has_one_spelling(spelled: str, plain: str | None) -> None:
    """The one that browsers send."""
    assert plain_origin(spelled) == plain


def test_broker_url_has_one_spelling() -> None:
    assert BrokerUrl.parse("mqtt://[0:0::1]") == BrokerUrl.parse("mqtt://[::1]:1883")
    assert BrokerUrl.parse("mqtt://Broker.Example") == BrokerUrl.parse("mqtt://broker.example:1883/")
