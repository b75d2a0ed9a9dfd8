"""The broker's URL: its parts, its defaults, and errors that do not show the password."""

import pytest

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.url import BrokerUrl


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt://host", BrokerUrl("mqtt", "host", 1883)),
        ("mqtts://host/", BrokerUrl("mqtts", "host", 8883)),
        ("ws://host", BrokerUrl("ws", "host", 80, "/mqtt")),
        ("wss://host:8443/sub/path", BrokerUrl("wss", "host", 8443, "/sub/path")),
        ("MQTT://Host:2883", BrokerUrl("mqtt", "host", 2883)),
        ("mqtt://alice@host", BrokerUrl("mqtt", "host", 1883, "", "alice")),
        ("mqtt://alice:@host", BrokerUrl("mqtt", "host", 1883, "", "alice", "")),
        ("mqtt://al%20ice:p%40ss%2Fw%3Ard@h", BrokerUrl("mqtt", "h", 1883, "", "al ice", "p@ss/w:rd")),
        ("mqtt://a:b:c@h", BrokerUrl("mqtt", "h", 1883, "", "a", "b:c")),
        ("mqtt://[::1]:1884", BrokerUrl("mqtt", "::1", 1884)),
        ("mqtt://[fe80::1%25eth0]", BrokerUrl("mqtt", "fe80::1%eth0", 1883)),
        ("mqtt://g%C3%BCnther@h", BrokerUrl("mqtt", "h", 1883, "", "günther")),
    ],
)
def test_url_is_taken_apart(text, expected):
    """Every part is read and decoded, and has its default."""
    assert BrokerUrl.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("localhost:1883", "scheme"),
        ("alice:s3cret@host", "scheme"),
        ("http://alice:s3cret@host", "mqtt://"),
        ("mqtt://", "host"),
        ("mqtt://alice:s3cret@", "host"),
        ("mqtt://alice:s3cret@:1883", "host"),
        ("mqtt://alice:s3cret@host:0", "port"),
        ("mqtt://alice:s3cret@host:65536", "port"),
        ("mqtt://alice:s3cret@host:mqtt", "port"),
        ("mqtt://alice:s3cret/more@host", "port"),
        ("mqtt://alice:1/s3cret@host", "path"),
        ("mqtt://alice:s3cret#@host", "#"),
        ("mqtt://alice:s3cret?@host", "#"),
        ("mqtt://:s3cret@host", "no user"),
        ("mqtt://alice:s3cret%FF@host", "password"),
        ("mqtt://alice:s3cret%00@host", "password"),
        ("mqtt://alice:s3cret @host", "space"),
        ("mqtt://alice:s3cret\n@host", "space"),
        ("mqtt://alice:s3cret@[::1", "IPv6"),
        ("mqtt://host/path", "path"),
        ("mqtt://alice:s3cret@host%2Fpath", "host"),
        ('mqtt://alice:s3cret@ho"st', "host"),
    ],
)
def test_wrong_url_is_named_and_the_password_is_not(text, names):
    """The message names the wrong part and has no part of the password."""
    with pytest.raises(ConfigError, match=names.replace("?", r"\?")) as caught:
        BrokerUrl.parse(text)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert "s3cret" not in str(caught.value.__context__ if not caught.value.__suppress_context__ else "")


def test_url_shows_no_password():
    """Logs may show the URL."""
    url = BrokerUrl.parse("wss://al%2Fice:s3cret@[::1]/x")
    assert str(url) == "wss://al%2Fice@[::1]:443/x"
    assert "s3cret" not in repr(url)
    assert url.tls
    assert url.websockets
