"""Who may see addresses and history; under which name the server answers, and to which pages."""

import base64
from typing import Any

import pytest

from mqtt_presence.cli.page_config import web_config
from mqtt_presence.errors import ConfigError
from mqtt_presence.settings import Settings
from mqtt_presence.web.allowed_origins import refuse_host, refuse_origin, socket_origin
from mqtt_presence.web.config import WebConfig
from mqtt_presence.web.forwarded_address import client_address
from mqtt_presence.web.headers import policy
from mqtt_presence.web.visibility import Login, Requester, Verdict, after_login, judge, takes_passwords

TOKEN = "0123456789abcdef"
OPERATOR, UNKNOWN, FORBIDDEN = Verdict.OPERATOR, Verdict.UNKNOWN, Verdict.FORBIDDEN


def config(**settings: Any) -> WebConfig:
    return WebConfig(**{"database": "sqlite:///presence.db", "open": True} | settings)


def who(peer: str = "127.0.0.1", version: str = "1.1", **headers: str) -> Requester:
    given = {"host": "127.0.0.1:8080"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return Requester(peer, version, given)


def credentials(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# Nobody needs a password: the people of this machine.


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "a.localhost", "LOCALHOST"])
@pytest.mark.parametrize("is_open", [True, None])
def test_somebody_at_this_machine_is_an_operator(peer: str, host: str, is_open: bool | None) -> None:
    """Open on loopback, or beside another broker: what runs here is theirs."""
    assert judge(config(open=is_open), who(peer, host=host)) is OPERATOR


@pytest.mark.parametrize(
    "requester",
    [
        who("192.168.1.7"),
        who(""),
        who("not an address"),
        who(host="presence.example"),
        who(host=""),
        who(host="localhost.evil.example"),
        who(host="127.0.0.1.evil.example"),
        who(version="1.0"),
        who(forwarded="for=1.2.3.4"),
        who(via="1.1 proxy"),
        who(x_forwarded_for="1.2.3.4"),
        who(x_forwarded_proto="https"),
        who(x_forwarded_host="presence.example"),
        who(x_real_ip="1.2.3.4"),
        who(cf_connecting_ip="1.2.3.4"),
    ],
)
def test_whoever_may_come_from_elsewhere_is_none(requester: Requester) -> None:
    """Another address, another name for us, or a trace of a proxy: a stranger may be behind it."""
    assert judge(config(), requester) is FORBIDDEN


def test_a_proxy_that_is_known_makes_nobody_local() -> None:
    """Who names an address elsewhere has a proxy, and all that it brings look local."""
    proxied = config(open=None, origins=frozenset({"https://presence.example"}))
    assert judge(proxied, who()) is FORBIDDEN
    assert judge(config(open=None, proxy=True), who()) is FORBIDDEN
    assert judge(config(origins=frozenset({"http://localhost:5173"})), who()) is OPERATOR


@pytest.mark.parametrize(
    ("said", "found"),
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
def test_address_is_what_the_proxy_has_added(said: str | None, found: str) -> None:
    """The last one, if the setting says that there is a proxy and the request comes from this machine."""
    headers = {} if said is None else {"x-forwarded-for": said}
    proxied = config(open=False, proxy=True)
    for peer in ("127.0.0.1", "::ffff:127.0.0.1", "::FFFF:7F00:1"):
        assert client_address(proxied, peer, headers) == found
        assert client_address(config(open=False), peer, headers) == "127.0.0.1"
    assert client_address(proxied, "192.168.1.7", headers) == "192.168.1.7"
    assert client_address(proxied, "", headers) == ""


@pytest.mark.parametrize("is_open", [True, None, False])
def test_beyond_loopback_coming_from_here_is_not_enough(is_open: bool | None) -> None:
    """There the address of this machine is one of many, e.g. of a proxy."""
    assert judge(config(host="0.0.0.0", open=is_open, insecure=True), who()) is FORBIDDEN


def test_operators_of_an_open_broker_are_none() -> None:
    """A name that anybody can give proves nothing."""
    opened = config(operators=frozenset({"alice"}))
    assert not takes_passwords(opened)
    assert judge(opened, who("10.0.0.1", authorization=credentials("alice", ""))) is FORBIDDEN


# The token.


@pytest.mark.parametrize("is_open", [True, None, False])
def test_token_makes_an_operator_from_anywhere(is_open: bool | None) -> None:
    """Whoever shows it, through whatever proxy."""
    asked = config(token=TOKEN, host="0.0.0.0", open=is_open, insecure=True)
    for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN} "):
        requester = who("10.0.0.1", host="x", via="proxy", authorization=authorization)
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
def test_without_the_token_nobody_is_one(authorization: str) -> None:
    """Where there is a token, coming from this machine is not enough."""
    assert judge(config(token=TOKEN), who(authorization=authorization)) is UNKNOWN


def test_an_empty_token_is_none() -> None:
    """`Bearer` and nothing must not fit a token that is not set."""
    assert judge(config(open=False), who(authorization="Bearer ")) is FORBIDDEN
    assert judge(config(open=False), who(authorization="Bearer")) is FORBIDDEN


def test_token_is_in_no_text() -> None:
    """A configuration may end in a log."""
    assert TOKEN not in repr(config(token=TOKEN))
    assert "pw" not in repr(Login("alice", "pw"))


# Passwords.


def test_an_operators_password_makes_an_operator() -> None:
    """It is to be verified first; a wrong one may be tried again, a right one of somebody else not."""
    asked = config(open=False, operators=frozenset({"alice"}), host="0.0.0.0")
    login = judge(asked, who("10.0.0.1", authorization=credentials("alice", "a:b é")))
    assert login == Login("alice", "a:b é")
    assert after_login(asked, login, right=True) is OPERATOR
    assert after_login(asked, login, right=False) is UNKNOWN
    assert after_login(asked, Login("bob", "x"), right=True) is FORBIDDEN


@pytest.mark.parametrize("sent", ["Basic", "Basic !", "Basic YWxpY2U=", "Basic /w==", "Digest x", ""])
def test_malformed_credentials_are_none(sent: str) -> None:
    """No colon, no base64, no UTF-8, another scheme."""
    asked = config(open=False, operators=frozenset({"alice"}))
    assert judge(asked, who(authorization=sent)) is UNKNOWN


def test_with_passwords_and_no_operator_nobody_may() -> None:
    """Coming from this machine is not enough where users have passwords."""
    assert judge(config(open=False), who()) is FORBIDDEN
    assert judge(config(open=False), who(authorization=credentials("alice", "x"))) is FORBIDDEN


# Settings that would open the house.


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
def test_open_broker_is_not_led_out_by_the_page(settings: dict[str, Any], named: str) -> None:
    """The page leads to the broker, so it must not lead farther than the broker may."""
    with pytest.raises(ConfigError, match=named):
        config(**settings)
    config(**settings, insecure=True)
    config(**settings | {"open": False})


@pytest.mark.parametrize(
    ("settings", "is_open", "is_said"),
    [
        ({"web_origin": ["https://presence.example"]}, False, True),
        ({"web_origin": ["https://presence.example"], "web_proxy": True}, False, False),
        ({"web_origin": ["https://presence.example"], "web_host": "0.0.0.0"}, False, False),
        ({"web_origin": ["https://presence.example"]}, None, False),
        ({"web_origin": ["http://localhost:5173"]}, False, False),
        ({}, False, False),
    ],
)
def test_proxy_that_is_not_believed_is_warned_of(
    settings: dict[str, Any], is_open: bool | None, is_said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Where passwords are asked for and all visitors would have one address, the log says what to set."""
    web_config(Settings(**settings), is_open=is_open)
    assert ("set web_proxy" in caplog.text) is is_said


# Names and pages.


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8080", "127.0.0.1:8080", "[::1]:8080", "x.localhost:1"]
)
def test_on_loopback_names_of_this_machine_are_ours(host: str) -> None:
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
def test_on_loopback_any_other_name_is_not(host: str, is_open: bool | None) -> None:
    """Any site can make its own name point to this machine (DNS rebinding)."""
    assert refuse_host(config(open=is_open), host)


def test_a_name_that_is_set_is_ours() -> None:
    asked = config(open=False, origins=frozenset({"https://presence.example", "http://box:8080"}))
    assert refuse_host(asked, "Presence.example") is None
    assert refuse_host(asked, "box:8080") is None
    assert refuse_host(asked, "box") is None, "a proxy may leave the port out"
    assert refuse_host(asked, "box.example:8080")


def test_on_the_network_names_count_where_there_is_no_password() -> None:
    """With passwords a bent name gains nothing; without, only addresses are sure not to be bent."""
    assert refuse_host(config(host="0.0.0.0", open=False), "box.lan:8080") is None
    opened = config(host="0.0.0.0", insecure=True)
    assert refuse_host(opened, "box.lan:8080")
    assert refuse_host(opened, "192.168.1.7:8080") is None
    assert refuse_host(opened, "[fe80::1]:8080") is None
    assert refuse_host(config(host="0.0.0.0", open=False), "a b")


@pytest.mark.parametrize(
    ("origin", "host", "may"),
    [
        (None, "localhost:8080", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("https://presence.example", "presence.example", True),
        ("HTTP://Localhost:8080", "localhost:8080", True),
        ("http://localhost:8081", "localhost:8080", False),
        ("http://127.0.0.1:8080", "localhost:8080", False),
        ("http://evil.example", "localhost:8080", False),
        ("https://evil.example:8080", "localhost:8080", False),
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
def test_only_our_own_pages_and_listed_ones_may_speak(origin: str | None, host: str, may: bool) -> None:
    asked = config(open=False, origins=frozenset({"http://listed.example"}))
    assert (refuse_origin(asked, host, origin) is None) is may


def test_policy_lets_nothing_in_but_what_is_ours() -> None:
    """Nothing inline, nothing from elsewhere; MQTT here, or at the broker that is set; no header is split."""
    here = policy(config(), "localhost:8080")
    assert "default-src 'none'" in here
    assert "connect-src 'self' ws://localhost:8080 wss://localhost:8080;" in here
    assert "unsafe" not in here
    assert "*" not in here
    there = policy(config(mqtt_url="wss://broker.example:9001/mqtt"), "localhost")
    assert "connect-src 'self' wss://broker.example:9001;" in there
    assert "connect-src 'self';" in policy(config(), "x; script-src *")
    assert socket_origin("ws://[::1]:9001/mqtt") == "ws://[::1]:9001"
