"""Notifications without sockets: settings, bodies, signatures, the schedule of retries, quiet hours, addresses."""

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from mqtt_presence.errors import ConfigError
from mqtt_presence.integrations.notifications.cloud_events import encode_body, source_of
from mqtt_presence.integrations.notifications.notification import (
    ALARM,
    ALL_CLEAR,
    Notification,
    Place,
    Queued,
    pack,
    unpack,
)
from mqtt_presence.integrations.notifications.public_addresses import NotPublicError, is_public, resolve
from mqtt_presence.integrations.notifications.quiet_hours import read_quiet_hours
from mqtt_presence.integrations.notifications.receivers import Receiver, read_receivers
from mqtt_presence.integrations.notifications.retry_schedule import (
    DELAYS_S,
    JITTER,
    delay_ms,
    read_retry_after,
)
from mqtt_presence.integrations.notifications.signing_keys import read_keys, signature
from mqtt_presence.settings import load
from tests.support.waiting import now_ms

NOW = 1_800_000_000_000
ALICE = Notification("userOffline", "alice", b'{"userId":"alice"}', NOW, version=7)


def receiver(**keys: Any) -> Receiver:
    (read,) = read_receivers(
        [{"name": "ops", "url": "https://example.net/hook", "on": ["userOffline"]} | keys]
    )
    return read


# Settings.


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"url": "ftp//x"}, "[[notify]] ops: url: must be https://host/path"),
        (
            {"url": "https://user:hunter2@host:x/"},
            "[[notify]] ops: url: must be https://host/path, with a number",
        ),
        ({"url": "https:///path"}, "[[notify]] ops: url: must be https://host/path in ASCII"),
        ({"url": "https://host/a b"}, "[[notify]] ops: url: must be https://host/path in ASCII"),
        (
            {"url": "nosuch://hunter2"},
            "[[notify]] ops: url: must be https://host/path, or a URL that Apprise knows",
        ),
        ({"on": []}, "[[notify]] ops: on: must be a list"),
        ({"on": ["userGone"]}, "[[notify]] ops: on: 'userGone' is no event"),
        ({"on": ["offline > soon"]}, "[[notify]] ops: on: must be a duration"),
        ({"on": ["back"]}, "[[notify]] ops: on: 'back' needs an alarm"),
        ({"users": "a/b"}, "[[notify]] ops: users: must be 1 to 128 characters"),
        ({"batch": "2h"}, "[[notify]] ops: batch: must be a duration from 0 to 1h"),
        ({"batch": True}, "[[notify]] ops: batch: must be a text"),
        ({"quiet": "22-7"}, "[[notify]] ops: quiet: must be like"),
        (
            {"quiet": "22:00-07:00 Europe/Atlantis"},
            "[[notify]] ops: quiet: there is no time zone 'Europe/Atlantis'",
        ),
        ({"quiet": "25:00-07:00"}, "[[notify]] ops: quiet: hour must be"),
        ({"secret_file": "missing"}, "[[notify]] ops: secret_file: missing cannot be read: No such file"),
        ({"secrets": "x"}, "[[notify]] ops: secrets: there is no such key"),
        ({"name": "a b"}, "[[notify]] 1: name: must be 1 to 64 letters"),
        ({"url": "json://host", "secret_file": __file__}, "[[notify]] ops: secret_file: "),
    ],
)
def test_wrong_table_is_one_line_that_names_table_and_key(keys: dict[str, Any], message: str) -> None:
    """The message names the table and the key, and quotes no secret."""
    with pytest.raises(ConfigError) as error:
        receiver(**keys)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
    assert "hunter2" not in str(error.value)


def test_missing_key_and_second_name() -> None:
    """A table needs name, url and on; two tables need two names."""
    table = {"name": "ops", "url": "https://example.net/", "on": ["userOffline"]}
    for key in table:
        with pytest.raises(ConfigError, match=f"{key}: is missing"):
            read_receivers([{k: v for k, v in table.items() if k != key}])
    with pytest.raises(ConfigError, match="another"):
        read_receivers([table, table])


def test_tables_of_the_settings_file(tmp_path: Path) -> None:
    """The settings file has the tables; another kind of value is one line without its contents."""
    file = tmp_path / "settings.toml"
    file.write_text(
        'notify_keep = "1d"\n[[notify]]\nname = "ops"\nurl = "https://hunter2/"\non = ["userIdle"]\n'
    )
    settings = load({}, file)
    assert read_receivers(settings.notify)[0].events == {"userIdle"}
    assert settings.notify_keep == 86_400
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in repr(read_receivers(settings.notify))
    file.write_text('notify = "https://hunter2/"\n')
    with pytest.raises(ConfigError, match=r"notify: must be tables .*\[\[notify\]\]") as error:
        load({}, file)
    assert "hunter2" not in str(error.value)


def test_what_a_receiver_takes() -> None:
    """Events and alarms of its users, all-clears only with `back`, and a group's alarms only of its own pattern."""
    pumps = receiver(users="pump-*", on=["userOffline", "offline > 10m", "online < 3", "back"])
    mute = receiver(users="pump-*", on=["offline > 10m"])

    def alarm(event: str, user: str, condition: str) -> Notification:
        return Notification(event, user, b"{}", NOW, condition=condition, outage="x")

    assert pumps.takes(Notification("userOffline", "pump-1", b"{}", NOW))
    assert not pumps.takes(Notification("userOnline", "pump-1", b"{}", NOW))
    assert not pumps.takes(Notification("userOffline", "alice", b"{}", NOW))
    assert pumps.takes(alarm(ALARM, "pump-1", "offline > 10m"))
    assert pumps.takes(alarm(ALL_CLEAR, "pump-1", "offline > 10m"))
    assert not mute.takes(alarm(ALL_CLEAR, "pump-1", "offline > 10m"))
    assert not pumps.takes(alarm(ALARM, "alice", "offline > 10m"))
    assert not pumps.takes(alarm(ALARM, "pump-1", "offline > 20m"))
    assert pumps.takes(alarm(ALARM, "pump-*", "online < 3"))
    assert not pumps.takes(alarm(ALARM, "*", "online < 3"))


# Bodies and signatures.


def test_ids_are_those_of_the_row() -> None:
    """A notification has the same id whenever its row is read, and another one than all others."""
    body = pack(NOW, [ALICE, ALICE])
    assert list(unpack(5, body)) == list(unpack(5, body))
    first, second = unpack(5, body)
    assert (first[0], second[0]) == (Place(5, 1), Place(5, 2))
    assert len({first[1].id, second[1].id, next(iter(unpack(6, body)))[1].id}) == 3


def test_body_is_a_cloud_event() -> None:
    """The attributes of CloudEvents 1.0, and the payload as on MQTT."""
    body = encode_body(source_of("acme/"), [Queued("id-1", ALICE)], is_batch=False)
    assert (body.id, body.content_type) == ("id-1", "application/cloudevents+json")
    assert json.loads(body.content) == {
        "specversion": "1.0",
        "id": "id-1",
        "source": "/mqtt-presence/acme",
        "type": "mqttpresence.userOffline.v1",
        "subject": "alice",
        "time": "2027-01-15T08:00:00.000Z",
        "sequence": "7",
        "datacontenttype": "application/json",
        "data": {"userId": "alice"},
    }
    assert source_of("ä b/c/") == "/mqtt-presence/%C3%A4%20b/c"


def test_batch_has_an_id_of_its_events() -> None:
    """A batch is a list; its id is that of the same events, and of no others."""
    events = [Queued(f"id-{n}", ALICE) for n in range(3)]
    body = encode_body("/x", events, is_batch=True)
    assert body.content_type == "application/cloudevents-batch+json"
    assert [event["id"] for event in json.loads(body.content)] == ["id-0", "id-1", "id-2"]
    assert body.id == encode_body("/x", events, is_batch=True).id
    assert len({encode_body("/x", events[:n], is_batch=True).id for n in (1, 2, 3)}) == 3


def test_signature_is_that_of_standard_webhooks(tmp_path: Path) -> None:
    """The `standardwebhooks` package verifies it, with each key of the file; another key or body does not pass."""
    keys = [base64.b64encode(bytes([n]) * 32).decode() for n in range(3)]
    file = tmp_path / "keys"
    file.write_text(f"# rotated monthly\nwhsec_{keys[0]}\n\n{keys[1]}\n")
    body, seconds = b'{"a":1}', now_ms() // 1000
    headers = {
        "webhook-id": "m1",
        "webhook-timestamp": str(seconds),
        "webhook-signature": signature(read_keys(file), "m1", seconds, body),
    }
    for key in keys[:2]:
        assert Verifier(f"whsec_{key}").verify(body, headers) == {"a": 1}
    with pytest.raises(WebhookVerificationError):
        Verifier(f"whsec_{keys[2]}").verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(f"whsec_{keys[0]}").verify(b'{"a":2}', headers)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "hunter2\n", "whsec_aHVudGVyMg==\n"])
def test_file_without_a_good_key(text: str, tmp_path: Path) -> None:
    """A short or malformed key is refused, and not quoted."""
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"openssl rand -base64 32") as error:
        read_keys(file)
    assert "hunter2" not in str(error.value)


# Retries.


def test_schedule_of_retries() -> None:
    """5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h, each a little longer by chance; then none."""
    hour = 3600
    assert (5, 300, 1800, *(n * hour for n in (2, 5, 10, 14, 20, 24))) == DELAYS_S
    for attempt, delay_s in enumerate(DELAYS_S, 1):
        assert delay_ms(attempt, 0.0, None) == delay_s * 1000
        assert delay_ms(attempt, 1.0, None) == pytest.approx(delay_s * 1000 * (1 + JITTER))
    assert delay_ms(10, 0.5, None) is None


def test_retry_after_is_obeyed() -> None:
    """Seconds or a date; at least a second, at most a day; nonsense is ignored."""
    assert read_retry_after("120", NOW) == 120
    assert read_retry_after("Fri, 15 Jan 2027 08:01:00 GMT", NOW) == 60
    assert read_retry_after("Fri, 15 Jan 2027 07:00:00 GMT", NOW) == 0
    for nonsense in (None, "", "soon", "-5", "1e9", "²"):
        assert read_retry_after(nonsense, NOW) is None
    assert delay_ms(1, 0.0, 120) == 120_000
    assert delay_ms(1, 0.0, 0) == 1000
    assert delay_ms(1, 0.0, 9e9) == 86_400_000
    assert delay_ms(10, 0.0, 120) is None


@given(
    st.text() | st.from_regex(r"\w{3}, \d{1,9} \w{3} \d{1,9} [0-9:]{1,12} [-+A-Z0-9]{1,9}", fullmatch=True)
)
def test_any_text_as_retry_after(text: str) -> None:
    """Whatever a receiver writes is a time that is not negative, or is ignored."""
    seconds = read_retry_after(text, NOW)
    assert seconds is None or seconds >= 0
    assert delay_ms(1, 0.5, seconds) is not None


# Quiet hours.


@pytest.mark.parametrize(
    ("text", "clock", "expected"),
    [
        ("22:00-07:00 Europe/Berlin", "21:59", False),
        ("22:00-07:00 Europe/Berlin", "22:00", True),
        ("22:00-07:00 Europe/Berlin", "06:59", True),
        ("22:00-07:00 Europe/Berlin", "07:00", False),
        ("12:00-13:00 Europe/Berlin", "12:30", True),
        ("12:00-13:00 Europe/Berlin", "13:00", False),
        ("12:00-13:00 UTC", "12:30", False),
    ],
)
@pytest.mark.parametrize("day", ["2027-01-15", "2027-07-15"])
def test_quiet_hours(text: str, clock: str, expected: bool, day: str) -> None:
    """The clock of the zone counts, in summer and in winter, also over midnight."""
    moment = datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=ZoneInfo("Europe/Berlin"))
    assert read_quiet_hours(text).cover(int(moment.timestamp() * 1000)) is expected


# Addresses.


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1",
        "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "::ffff:127.0.0.1",
        "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:0:0:0:0:80ff:fffe", "64:ff9b:1::7f00:1",
    ],
)  # fmt: skip
def test_address_that_is_not_public(address: str) -> None:
    """Loopback, private, shared, link-local, multicast and reserved addresses, also inside tunnels."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_address(address: str) -> None:
    """Addresses of the internet."""
    assert is_public(address)


def test_names_of_this_machine_are_refused() -> None:
    """A name is judged by its address, in every spelling that the resolver understands."""
    for host in ("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "::1"):
        with pytest.raises(NotPublicError, match="notify_private"):
            resolve(host, 80, private=False)
    assert resolve("127.0.0.1", 80, private=True)
