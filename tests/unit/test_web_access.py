"""Access to the page: operators, accepted host names, and accepted origins."""

import base64
from typing import Any

import pytest

from mqtt_presence.cli.page_config import web_config
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.listening import addresses_for_others
from mqtt_presence.settings import Settings
from mqtt_presence.web.allowed_origins import refuse_host, refuse_origin, socket_origin
from mqtt_presence.web.config import Token, WebConfig
from mqtt_presence.web.forwarded_address import client_address
from mqtt_presence.web.headers import policy
from mqtt_presence.web.visibility import (
    AccessDecision,
    OperatorLogin,
    Requester,
    after_login,
    judge,
    takes_passwords,
)

TOKEN = "0123456789abcdef"
OPERATOR, UNKNOWN, FORBIDDEN = AccessDecision.OPERATOR, AccessDecision.UNKNOWN, AccessDecision.FORBIDDEN


def config(**settings: Any) -> WebConfig:
    return WebConfig(**{"database": "sqlite:///presence.db", "open": True} | settings)


def request_from(address: str = "127.0.0.1", version: str = "1.1", **headers: str) -> Requester:
    given = {"host": "127.0.0.1:8080"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Requester(address, version, given)


def credentials(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# Requests from this machine, without passwords.


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "a.localhost", "LOCALHOST"])
@pytest.mark.parametrize("is_open", [True, None])
def test_a_request_from_this_machine_is_an_operators(peer: str, host: str, is_open: bool | None) -> None:
    """The broker is open on loopback, or another process."""
    assert judge(config(open=is_open), request_from(peer, host=host)) is OPERATOR


@pytest.mark.parametrize(
    "requester",
    [
        request_from("192.168.1.7"),
        request_from(""),
        request_from("not an address"),
        request_from(host="presence.example"),
        request_from(host=""),
        request_from(host="localhost.evil.example"),
        request_from(host="127.0.0.1.evil.example"),
        request_from(version="1.0"),
        request_from(forwarded="for=1.2.3.4"),
        request_from(via="1.1 proxy"),
        request_from(x_forwarded_for="1.2.3.4"),
        request_from(x_forwarded_proto="https"),
        request_from(x_forwarded_host="presence.example"),
        request_from(x_real_ip="1.2.3.4"),
        request_from(cf_connecting_ip="1.2.3.4"),
    ],
)
def test_a_request_that_may_be_from_elsewhere_is_not_an_operators(requester: Requester) -> None:
    """A foreign address, a foreign host name, or a header of a proxy."""
    assert judge(config(), requester) is FORBIDDEN


def test_requests_through_a_configured_proxy_are_not_local() -> None:
    """A configured origin elsewhere means a proxy, whose requests all look local."""
    proxied = config(open=None, origins=frozenset({"https://presence.example"}))
    assert judge(proxied, request_from()) is FORBIDDEN
    assert judge(config(open=None, proxy=True), request_from()) is FORBIDDEN
    assert judge(config(origins=frozenset({"http://localhost:5173"})), request_from()) is OPERATOR


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("10.0.0.1, evil, 203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:DB8:0::7", "2001:db8::7"),
        ("203.0.113.7:51234", "203.0.113.7"),
        ("[2001:db8::7]:51234", "2001:db8::7"),
        ('"[2001:db8::7]:51234"', "2001:db8::7"),
        ("::FFFF:203.0.113.7", "203.0.113.7"),
        ("::ffff:cb00:7107", "203.0.113.7"),
        ("0:0:0:0:0:ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:51234", "203.0.113.7"),
        ("203.0.113.7:", "127.0.0.1"),
        ("[203.0.113.7", "127.0.0.1"),
        ("203.0.113.7:port", "127.0.0.1"),
        ("203.0.113.7, unknown", "127.0.0.1"),
        ("203.0.113.7,", "127.0.0.1"),
        ("x" * 9000, "127.0.0.1"),
        (None, "127.0.0.1"),
    ],
)
def test_the_last_forwarded_address_counts(header: str | None, address: str) -> None:
    """Only with `web_proxy`, and only for requests from this machine."""
    headers = {} if header is None else {"x-forwarded-for": header}
    proxied = config(open=False, proxy=True)
    for peer in ("127.0.0.1", "::ffff:127.0.0.1", "::FFFF:7F00:1"):
        assert client_address(proxied, peer, headers) == address
        assert client_address(config(open=False), peer, headers) == "127.0.0.1"
    assert client_address(proxied, "192.168.1.7", headers) == "192.168.1.7"
    assert client_address(proxied, "", headers) == ""


@pytest.mark.parametrize("is_open", [True, None, False])
def test_beyond_loopback_local_requests_are_not_operators(is_open: bool | None) -> None:
    """A request from this machine may come through a proxy."""
    assert judge(config(host="0.0.0.0", open=is_open, insecure=True), request_from()) is FORBIDDEN


def test_an_open_broker_has_no_operators_by_name() -> None:
    """Every client can use the name of an operator."""
    opened = config(operators=frozenset({"alice"}))
    assert not takes_passwords(opened)
    assert judge(opened, request_from("10.0.0.1", authorization=credentials("alice", ""))) is FORBIDDEN


# The token.


@pytest.mark.parametrize("is_open", [True, None, False])
def test_the_token_is_accepted_from_any_address(is_open: bool | None) -> None:
    """The address and the proxy do not matter."""
    asked = config(tokens=(Token(TOKEN),), host="0.0.0.0", open=is_open, insecure=True)
    for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN} "):
        requester = request_from("10.0.0.1", host="x", via="proxy", authorization=authorization)
        assert judge(asked, requester) is OPERATOR


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer é",
        "Bearer " + "x" * 9999,
    ],
)
def test_other_credentials_than_the_token_are_refused(authorization: str) -> None:
    """With a token, a request from this machine needs it as well."""
    assert judge(config(tokens=(Token(TOKEN),)), request_from(authorization=authorization)) is UNKNOWN


def test_an_empty_token_opens_nothing() -> None:
    """`Bearer` without a token does not match an unset token."""
    assert judge(config(open=False), request_from(authorization="Bearer ")) is FORBIDDEN
    assert judge(config(open=False), request_from(authorization="Bearer")) is FORBIDDEN


def test_repr_shows_no_token_and_no_password() -> None:
    """A configuration may end in a log."""
    assert TOKEN not in repr(config(tokens=(Token(TOKEN),)))
    assert "pw" not in repr(OperatorLogin("alice", "pw"))


# Passwords.


def test_an_operators_password_makes_an_operator() -> None:
    """A wrong password opens nothing, the right one of another user the statuses only."""
    asked = config(open=False, operators=frozenset({"alice"}), host="0.0.0.0")
    login = judge(asked, request_from("10.0.0.1", authorization=credentials("alice", "a:b é")))
    assert login == OperatorLogin("alice", "a:b é")
    assert after_login(asked, login, right=True) is OPERATOR
    assert after_login(asked, login, right=False) is UNKNOWN
    assert after_login(asked, OperatorLogin("bob", "x"), right=True) is AccessDecision.STATUS


@pytest.mark.parametrize("sent", ["Basic", "Basic !", "Basic YWxpY2U=", "Basic /w==", "Digest x", ""])
def test_malformed_credentials_are_refused(sent: str) -> None:
    """No colon, no base64, no UTF-8, another scheme."""
    asked = config(open=False, operators=frozenset({"alice"}))
    assert judge(asked, request_from(authorization=sent)) is UNKNOWN


def test_with_passwords_and_no_operator_the_api_is_closed() -> None:
    """A request from this machine needs a password as well."""
    assert judge(config(open=False), request_from()) is FORBIDDEN
    assert judge(config(open=False), request_from(authorization=credentials("alice", "x"))) is FORBIDDEN


# Settings that would admit everybody.


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"host": "0.0.0.0"}, "web_host='0.0.0.0'"),
        ({"host": ""}, "web_host=''"),
        ({"host": "192.168.1.7"}, "web_host="),
        ({"origins": frozenset({"https://presence.example"})}, "web_origin=https://presence.example"),
        ({"proxy": True}, "web_proxy lets people from elsewhere in"),
    ],
)
def test_the_page_does_not_expose_an_open_broker(settings: dict[str, Any], named: str) -> None:
    """The page leads to the broker, so the same bounds hold for both."""
    with pytest.raises(ConfigError, match=named):
        config(**settings)
    config(**settings, insecure=True)
    config(**settings | {"open": False})


@pytest.mark.parametrize(
    ("settings", "is_open", "is_logged"),
    [
        ({"web_origin": ["https://presence.example"]}, False, True),
        ({"web_origin": ["https://presence.example"], "web_proxy": True}, False, False),
        ({"web_origin": ["https://presence.example"], "web_host": "0.0.0.0"}, False, False),
        ({"web_origin": ["https://presence.example"]}, None, False),
        ({"web_origin": ["http://localhost:5173"]}, False, False),
        ({}, False, False),
    ],
)
def test_a_proxy_without_web_proxy_is_logged(
    settings: dict[str, Any], is_open: bool | None, is_logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """All visitors would share one address for wrong passwords, so the log names the setting."""
    web_config(Settings(**settings), is_open=is_open)
    assert ("set web_proxy" in caplog.text) is is_logged


# Host names and origins.


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "x.localhost:1"]
)
def test_on_loopback_names_of_this_machine_are_accepted(host: str) -> None:
    assert refuse_host(config(), host) is None


@pytest.mark.parametrize("is_open", [True, None, False])
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "192.168.1.7",
        "",
        "a b",
        "[",
        "localhost@evil",
        "x/y",
        "local\thost",
    ],
)
def test_on_loopback_other_names_are_refused(host: str, is_open: bool | None) -> None:
    """Any site can make its name resolve to this machine (DNS rebinding)."""
    assert refuse_host(config(open=is_open), host)


def test_a_configured_name_is_accepted() -> None:
    asked = config(open=False, origins=frozenset({"https://presence.example", "http://box:8080"}))
    assert refuse_host(asked, "Presence.example") is None
    assert refuse_host(asked, "box:8080") is None
    assert refuse_host(asked, "box") is None, "a proxy may leave the port out"
    assert refuse_host(asked, "box.example:8080")


def test_on_the_network_names_are_checked_without_passwords() -> None:
    """DNS rebinding gains nothing where passwords are needed, and does not work with addresses."""
    assert refuse_host(config(host="0.0.0.0", open=False), "box.lan:8080") is None
    opened = config(host="0.0.0.0", insecure=True)
    assert refuse_host(opened, "box.lan:8080")
    assert refuse_host(opened, "192.168.1.7:8080") is None
    assert refuse_host(opened, "[fe80::1]:8080") is None
    assert refuse_host(config(host="0.0.0.0", open=False), "a b")


@pytest.mark.parametrize(
    ("origin", "host", "accepted"),
    [
        (None, "localhost:8080", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("https://presence.example", "presence.example", True),
        ("HTTP://Localhost:8080", "localhost:8080", True),
        ("http://localhost:8081", "localhost:8080", False),
        ("http://127.0.0.1:8080", "localhost:8080", False),
        ("http://evil.example", "localhost:8080", False),
        ("https://evil.example:8080", "localhost:8080", False),
        ("\x00http://localhost:8080", "localhost:8080", False),
        (" http://localhost:8080", "localhost:8080", False),
        ("http://local\thost:8080", "localhost:8080", False),
        ("http://listed.example\n", "localhost:8080", False),
        ("null", "localhost:8080", False),
        ("", "localhost:8080", False),
        ("file://localhost:8080", "localhost:8080", False),
        ("http://evil@localhost:8080", "localhost:8080", False),
        ("http://[", "localhost:8080", False),
        ("http://listed.example", "localhost:8080", True),
        ("http://LISTED.example:80", "localhost:8080", True),
        ("http://listed.example:443", "localhost:8080", False),
        ("https://listed.example", "localhost:8080", False),
        ("http://listed.example/", "localhost:8080", False),
        ("https://presence.example", "presence.example:443", True),
        ("https://presence.example:443", "presence.example", True),
        ("https://presence.example:8443", "presence.example", False),
        ("http://presence.example", "presence.example:443", False),
        ("http://[::1]:8080", "[0:0::1]:8080", True),
        ("http://localhost:port", "localhost:port", False),
        ("https://listed.example", "listed.example", False),
        ("https://listed.example:8443", "listed.example:8443", True),
    ],
)
def test_only_own_and_listed_origins_are_accepted(origin: str | None, host: str, accepted: bool) -> None:
    asked = config(open=False, origins=frozenset({"http://listed.example"}))
    assert (refuse_origin(asked, host, origin) is None) is accepted


def test_only_listed_pages_may_show_the_page_in_a_frame() -> None:
    """By default no page may."""
    assert "frame-ancestors 'none'" in policy(config(), "localhost")
    listed = config(frame_ancestors=frozenset({"https://b.example", "https://a.example:8123"}))
    assert "frame-ancestors https://a.example:8123 https://b.example" in policy(listed, "localhost")


def test_others_reach_what_listens_beyond_loopback() -> None:
    """The addresses of this machine, without loopback and without zones."""
    assert (
        addresses_for_others("127.0.0.1")
        == addresses_for_others("localhost")
        == addresses_for_others("::1")
        == []
    )
    assert addresses_for_others("192.0.2.7") == ["192.0.2.7"]
    assert addresses_for_others("presence.example") == ["presence.example"]
    everywhere = addresses_for_others("0.0.0.0")
    assert set(everywhere) == set(addresses_for_others("")) <= set(addresses_for_others("::"))
    assert not [address for address in everywhere if address.startswith("127.") or ":" in address]
    assert not [address for address in addresses_for_others("::") if "%" in address]


def test_the_policy_allows_this_server_only() -> None:
    """No inline code, no other servers, MQTT at the configured broker, and no injection by the host."""
    here = policy(config(), "localhost:8080")
    assert "default-src 'none'" in here
    assert "connect-src 'self' ws://localhost:8080 wss://localhost:8080;" in here
    assert "unsafe" not in here
    assert "*" not in here
    there = policy(config(mqtt_url="wss://broker.example:9001/mqtt"), "localhost")
    assert "connect-src 'self' wss://broker.example:9001;" in there
    assert "connect-src 'self';" in policy(config(), "x; script-src *")
    assert socket_origin("ws://[::1]:9001/mqtt") == "ws://[::1]:9001"
