"""Webhooks: one POST for each request, signed, to a checked address, without redirects.

The connection is made here, so that it goes to the address that was checked; TLS verifies the URL's name.
urllib3 writes the request and reads the answer. Nothing of the URL or the secret is in a reason for the log.
"""

import http.client
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.util import make_headers

from mqtt_presence import __version__
from mqtt_presence.integrations.notifications.cloud_events import MAX_BATCH, Body, encode_body
from mqtt_presence.integrations.notifications.notification import Queued
from mqtt_presence.integrations.notifications.public_addresses import NotPublicError, resolve
from mqtt_presence.integrations.notifications.retry_schedule import read_retry_after
from mqtt_presence.integrations.notifications.sending import Answer, Delivered, Failed, Gone
from mqtt_presence.integrations.notifications.signing_keys import read_keys, signature

TIMEOUT_S = 15.0
"""From the first question to the last byte that is read."""
_PORTS = {"http": 80, "https": 443}
# It would log URLs, which may have secrets.
logging.getLogger("urllib3").setLevel(logging.CRITICAL + 1)

_GONE = 410
_REFUSALS = frozenset({400, 413, 422})


def checked_url(url: str) -> SplitResult:
    """Return the parts of a webhook's URL.

    Raises:
        ValueError: it is no http or https URL with a host; the message does not quote it.

    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:  # its message may quote the password
        raise ValueError("must be https://host/path, with a number as port") from None
    has_blanks = any(character <= " " or character == "\x7f" for character in url)
    if parts.scheme not in _PORTS or not parts.hostname or port == 0 or has_blanks or not url.isascii():
        raise ValueError("must be https://host/path in ASCII (others percent-encoded)")
    return parts


class Webhook:
    """Sends to one webhook.

    Args:
        url: `http` or `https`; a user and password in it are sent by Basic authentication.
        source: of the events (`cloud_events.source_of`).
        is_batch: send lists of events.
        secret_file: has the keys, read for each request; None: requests are not signed.
        private: allow addresses that are not public.
        now: returns the time, epoch milliseconds.
        timeout_s: the time for one request, seconds.

    """

    def __init__(
        self,
        url: str,
        source: str,
        *,
        is_batch: bool,
        secret_file: Path | None,
        private: bool,
        now: Callable[[], int],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        parts = checked_url(url)
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._is_tls = parts.scheme == "https"
        self._headers = {"user-agent": f"mqtt-presence/{__version__}", "connection": "close"}
        if parts.username is not None:
            credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers |= make_headers(basic_auth=credentials)
        self._source = source
        self._is_batch = is_batch
        self._secret_file = secret_file
        self._private = private
        self._now = now
        self._timeout_s = timeout_s
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._raw: socket.socket | None = None
        """A copy of the socket on its way, to end it from another thread."""
        self._is_cancelled = False

    @property
    def limit(self) -> int:
        """See `Sending`."""
        return MAX_BATCH if self._is_batch else 1

    def send(self, notifications: Sequence[Queued]) -> Answer:
        """See `Sending`."""
        body = encode_body(self._source, notifications, is_batch=self._is_batch)
        try:
            return self._post(body, self._signed_headers(body))
        except NotPublicError as error:
            return Failed(str(error))
        except Exception as error:  # noqa: BLE001 - whatever a strange receiver causes, it is a failure
            return Failed(_reason(error, self._timeout_s))

    def cancel(self) -> None:
        """See `Sending`."""
        with self._lock:
            self._is_cancelled = True
            self._end()

    def _signed_headers(self, body: Body) -> dict[str, str]:
        timestamp = self._now() // 1000
        headers = {
            **self._headers,
            "content-type": body.content_type,
            "webhook-id": body.id,
            "webhook-timestamp": str(timestamp),
        }
        if self._secret_file is not None:
            try:
                keys = read_keys(self._secret_file)
            except OSError as error:
                raise ValueError(error.strerror) from None
            headers["webhook-signature"] = signature(keys, body.id, timestamp, body.content)
        return headers

    def _post(self, body: Body, headers: dict[str, str]) -> Answer:
        until_s = time.monotonic() + self._timeout_s
        connected = self._connect(until_s)
        # The timeout of a socket is that of one read: a receiver that sends a byte now and then would go on.
        watchdog = threading.Timer(max(0.0, until_s - time.monotonic()), self._end_in_time)
        watchdog.daemon = True
        watchdog.start()
        try:
            if self._is_tls:
                connected = self._tls_context().wrap_socket(connected, server_hostname=self._host)
            connection = HTTPConnection(self._host, self._port, timeout=self._timeout_s)
            connection.sock = connected
            with closing(connection):
                connection.request("POST", self._target, body.content, headers, preload_content=False)
                response = connection.getresponse()
                status, retry_after = response.status, response.headers.get("retry-after")
        except Exception:
            if time.monotonic() >= until_s:
                raise TimeoutError from None
            raise
        finally:
            watchdog.cancel()
            connected.close()
            self._forget()
        return _answer(status, read_retry_after(retry_after, self._now()))

    def _connect(self, until_s: float) -> socket.socket:
        problem: Exception = OSError(0, "its name has no address")
        for family, address in resolve(self._host, self._port, private=self._private):
            connecting = socket.socket(family, socket.SOCK_STREAM)
            with self._lock:
                if self._is_cancelled:
                    connecting.close()
                    raise OSError(0, "cancelled")
                self._raw = connecting.dup()
            try:
                connecting.settimeout(max(0.01, until_s - time.monotonic()))
                connecting.connect(address)
            except OSError as error:
                connecting.close()
                self._forget()
                problem = error
            else:
                return connecting
        raise problem

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _end_in_time(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        """End the request on its way; with the lock."""
        if self._raw is not None:
            with suppress(OSError):  # not connected yet: closing ends the attempt
                self._raw.shutdown(socket.SHUT_RDWR)

    def _forget(self) -> None:
        with self._lock:
            if self._raw is not None:
                self._raw.close()
                self._raw = None


def _answer(status: int, retry_after_s: float | None) -> Answer:
    if 200 <= status < 300:
        return Delivered(f"HTTP {status}")
    if status == _GONE:
        return Gone()
    return Failed(f"HTTP {status}", retry_after_s, is_refused=status in _REFUSALS)


def _reason(error: BaseException, timeout_s: float) -> str:
    """Return the reason of a failure, in words without the URL."""
    match error:
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case socket.gaierror():
            return "its name cannot be resolved"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not accepted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or 'closed'}"
        case ConnectionRefusedError():
            return "the connection is refused"
        case ConnectionError():
            return "the connection was closed"
        case HTTPError() | http.client.HTTPException():
            return "the answer is no HTTP, or was cut off"
        case OSError():
            return error.strerror or "the connection was closed"
        case ValueError():
            return f"secret_file: {error}"
    return type(error).__name__
