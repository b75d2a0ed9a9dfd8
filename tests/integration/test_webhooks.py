"""The edge of notifications: HTTP and TLS to real servers, checked addresses, time limits, secrets, Apprise."""

import base64
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.integrations.notifications import public_addresses
from mqtt_presence.integrations.notifications.notification import Notification, Queued
from mqtt_presence.integrations.notifications.receivers import read_receivers, sending_of
from mqtt_presence.integrations.notifications.sending import Answer, Delivered, Failed
from mqtt_presence.integrations.notifications.webhook import Webhook
from tests.support.certificates import Authority
from tests.support.notified_bridge import NotifiedBridge
from tests.support.receiver import Answer as HttpAnswer
from tests.support.receiver import WebhookReceiver
from tests.support.waiting import free_port, now_ms, until

ALICE = Queued(
    "id-1", Notification("userOffline", "alice", b'{"userId":"alice"}', 1_800_000_000_000, version=7)
)


def webhook(url: str, *, private: bool = True, timeout_s: float = 5.0) -> Webhook:
    return Webhook(
        url, "/x", is_batch=False, secret_file=None, private=private, now=now_ms, timeout_s=timeout_s
    )


def send(url: str, **options: Any) -> Answer:
    return webhook(url, **options).send([ALICE])


@contextmanager
def talker(answer: bytes, every_s: float = 0.0) -> Iterator[int]:
    """Serve one connection: read something, then send bytes, all at once or one by one."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def talk() -> None:
            connection, _ = server.accept()
            with closing(connection):
                connection.recv(65_536)
                try:
                    for byte in [answer] if not every_s else [bytes([b]) for b in answer]:
                        connection.sendall(byte)
                        threading.Event().wait(every_s)
                except OSError:
                    pass

        threading.Thread(target=talk, daemon=True).start()
        yield server.getsockname()[1]


# Answers.


@pytest.mark.parametrize(
    ("status", "kind"), [(200, Delivered), (299, Delivered), (300, Failed), (404, Failed)]
)
def test_only_2xx_is_a_success(status: int, kind: type) -> None:
    """Every answer but 2xx is a failure."""
    with WebhookReceiver(lambda _: HttpAnswer(status)) as receiver:
        assert isinstance(send(receiver.url), kind)


def test_time_limit_holds_for_the_whole_request() -> None:
    """Neither silence nor a byte now and then keeps a request longer than its time."""
    with WebhookReceiver(lambda _: HttpAnswer(hang=True)) as receiver:
        begin = time.monotonic()
        assert send(receiver.url, timeout_s=0.3) == Failed("no answer within 0.3 s")
        assert time.monotonic() - begin < 2
    with talker(b"HTTP/1.1 204 No Content\r\n" + b"x: y\r\n" * 100, every_s=0.05) as port:
        begin = time.monotonic()
        assert send(f"http://127.0.0.1:{port}/", timeout_s=0.3) == Failed("no answer within 0.3 s")
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2", b"HTTP/1.1 abc\r\n\r\n"])
def test_answer_that_is_no_http(answer: bytes) -> None:
    """Junk is a failure, in words without the URL."""
    with talker(answer) as port:
        failed = send(f"http://127.0.0.1:{port}/hunter2")
    assert isinstance(failed, Failed)
    assert "hunter2" not in failed.reason
    assert "127.0.0.1" not in failed.reason


def test_receiver_that_is_away() -> None:
    """A closed port and an unknown name are failures with plain words."""
    assert send(f"http://127.0.0.1:{free_port()}/") == Failed("the connection is refused")
    assert send("http://no-such-host.invalid/") == Failed("its name cannot be resolved")


def test_cancel_ends_a_request_at_once() -> None:
    """A request on its way ends when it is cancelled, and every later one."""
    with WebhookReceiver(lambda _: HttpAnswer(hang=True)) as receiver:
        hook, answers = webhook(receiver.url, timeout_s=30), []
        sending = threading.Thread(target=lambda: answers.append(hook.send([ALICE])))
        sending.start()
        until(lambda: receiver.requests, "the request")
        hook.cancel()
        sending.join(5)
        assert not sending.is_alive()
        assert isinstance(answers[0], Failed)
        assert isinstance(hook.send([ALICE]), Failed)
        assert len(receiver.requests) == 1


# Addresses.


def test_private_addresses_are_refused() -> None:
    """Without `notify_private` no connection to this machine is made, by whatever name."""
    with WebhookReceiver() as receiver:
        for host in ("127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"):
            failed = send(f"http://{host}:{receiver.port}/", private=False)
            assert isinstance(failed, Failed)
            assert "notify_private" in failed.reason
        assert receiver.requests == []


def test_name_is_resolved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to the address that was checked: a name that changes in between gains nothing."""
    asked: list[str] = []

    def rebinding(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    checked: list[str] = []

    def is_public(address: str) -> bool:
        checked.append(address)
        return address == "127.0.0.1"

    with WebhookReceiver() as receiver:
        monkeypatch.setattr(socket, "getaddrinfo", rebinding)
        monkeypatch.setattr(public_addresses, "is_public", is_public)
        assert isinstance(send(f"http://rebinding.example:{receiver.port}/", private=False), Delivered)
        assert (asked, checked) == (["rebinding.example"], ["127.0.0.1"])
        assert receiver.requests[0][0].headers["host"] == f"rebinding.example:{receiver.port}"
        assert isinstance(send(f"http://rebinding.example:{receiver.port}/", private=False), Failed)
        assert len(receiver.requests) == 1


def test_tls_verifies_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over TLS the name of the URL must be in the certificate, and its authority must be trusted."""
    authority = Authority(tmp_path / "ca")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.path("server.crt"), authority.path("server.key"))
    with WebhookReceiver() as receiver:
        receiver._server.socket = context.wrap_socket(receiver._server.socket, server_side=True)
        untrusted = send(f"https://localhost:{receiver.port}/")
        assert isinstance(untrusted, Failed)
        assert untrusted.reason.startswith("its certificate is not accepted")
        monkeypatch.setenv("SSL_CERT_FILE", authority.path("ca.crt"))
        assert isinstance(send(f"https://localhost:{receiver.port}/"), Delivered)
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda _, port, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))],
        )
        other = send(f"https://other.example:{receiver.port}/")
        assert isinstance(other, Failed)
        assert "mismatch" in other.reason.lower()
        assert len(receiver.requests) == 1


# Secrets.


def test_secrets_are_in_no_log_and_not_in_the_database(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User, password, path and key of a receiver that fails in several ways appear in no line and no row."""
    caplog.set_level(logging.DEBUG)
    key = base64.b64encode(b"hunter2hunter2hunter2hunter2").decode()
    (tmp_path / "secret").write_text(f"whsec_{key}\n")
    secrets = ["hunter2", "dXNlcjpodW50ZXIy", key]
    with WebhookReceiver(lambda _: HttpAnswer(503)) as receiver:
        url = f"http://user:hunter2@127.0.0.1:{receiver.port}/hunter2?token=hunter2"
        tables = [
            {"name": "ops", "url": url, "secret_file": str(tmp_path / "secret"), "on": ["userOnline"]},
            {
                "name": "text",
                "url": f"json://user:hunter2@127.0.0.1:{receiver.port}/hunter2",
                "on": ["userOnline"],
            },
            {"name": "away", "url": f"http://127.0.0.1:{free_port()}/hunter2", "on": ["userOnline"]},
        ]
        with NotifiedBridge(sqlite_url, *tables) as bridge:
            bridge.comes("alice")
            until(lambda: caplog.text.count("attempt 1 failed") == 3, "three failures")
            assert len(receiver.requests) == 2
            assert receiver.requests[0][0].headers["authorization"] == "Basic dXNlcjpodW50ZXIy"
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("presence.db*"))
    for secret in secrets:
        assert secret not in caplog.text
        assert secret.encode() not in stored


# Apprise.


def test_apprise_sends_texts() -> None:
    """JSON and ntfy by Apprise to a real server: a line for each notification, in one message for a batch."""
    offline = Queued(
        "id-2", Notification("alarm", "pump-1", b"{}", 1_800_000_000_000, condition="offline > 10m")
    )
    with WebhookReceiver(lambda _: HttpAnswer(200)) as receiver:
        for scheme in ("json", "ntfy"):
            table = {"name": "x", "url": f"{scheme}://127.0.0.1:{receiver.port}/topic", "on": ["userOffline"]}
            (read,) = read_receivers([table | {"batch": "1s"}])
            sending = sending_of(read, "", private=True, now=now_ms)
            assert sending.send([ALICE, offline]) == Delivered("Apprise has sent it")
            body = receiver.requests[-1][0].body.decode()
            assert "alice is offline (2027-01-15T08:00:00.000Z)" in body
            assert "pump-1: alarm: offline > 10m (2027-01-15T08:00:00.000Z)" in body
        receiver.answer = lambda _: HttpAnswer(500)
        assert isinstance(sending.send([ALICE]), Failed)


def test_name_is_no_markup_in_a_text() -> None:
    """A user whose name is HTML is shown by its name where a service reads HTML."""
    hostile = Queued("id-3", Notification("userOffline", "<b>&x", b"{}", 1_800_000_000_000))
    with WebhookReceiver(lambda _: HttpAnswer(200)) as receiver:
        url = f"json://127.0.0.1:{receiver.port}/?format=html"
        (read,) = read_receivers([{"name": "x", "url": url, "on": ["userOffline"]}])
        assert isinstance(sending_of(read, "", private=True, now=now_ms).send([hostile]), Delivered)
        assert "&lt;b&gt;&amp;x" in json.loads(receiver.requests[0][0].body)["message"]


def test_apprise_is_bound_to_public_addresses_too() -> None:
    """The host in a URL of Apprise is checked, and redirects are not followed."""
    with WebhookReceiver() as other, WebhookReceiver() as receiver:
        table = {"name": "x", "url": f"json://localhost:{receiver.port}/", "on": ["userOffline"]}
        (read,) = read_receivers([table])
        failed = sending_of(read, "", private=False, now=now_ms).send([ALICE])
        assert isinstance(failed, Failed)
        assert "notify_private" in failed.reason
        assert receiver.requests == []
        receiver.answer = lambda _: HttpAnswer(307, {"Location": other.url})
        assert isinstance(sending_of(read, "", private=True, now=now_ms).send([ALICE]), Failed)
        assert len(receiver.requests) == 1
        assert other.requests == []
