"""Every other service: sent by Apprise, as a text for people. Needs the extra `notify`.

Apprise resolves names and connects by itself. So the address of a host in its URL is checked before each
message, but a name that changes in between is not noticed (docs/security.md).
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from mqtt_presence.errors import ConfigError
from mqtt_presence.integrations.notifications.cloud_events import MAX_BATCH
from mqtt_presence.integrations.notifications.notification import Queued
from mqtt_presence.integrations.notifications.public_addresses import NotPublicError, resolve
from mqtt_presence.integrations.notifications.sending import Answer, Delivered, Failed
from mqtt_presence.integrations.notifications.texts import TITLE, text_of

_LIBRARIES = ("apprise", "urllib3", "requests")


def load_service(url: str) -> Any:
    """Return Apprise's service for a URL.

    Raises:
        ConfigError: Apprise is not installed, or does not know the URL. The message does not quote it.

    """
    for name in _LIBRARIES:
        # Their log lines quote URLs, which have tokens and passwords.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        from apprise import Apprise  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise ConfigError("needs Apprise: pip install 'mqtt-presence-bridge[notify]'") from None
    service = Apprise.instantiate(url, suppress_exceptions=True)
    if service is None:
        raise ConfigError("must be https://host/path, or a URL that Apprise knows")
    service.redirects = False  # one could lead to an address that was not checked
    return service


class AppriseSender:
    """Sends to one service of Apprise.

    Args:
        service: see `load_service`.
        is_batch: one text may have several notifications, a line for each.
        private: allow addresses that are not public.

    """

    def __init__(self, service: Any, *, is_batch: bool, private: bool) -> None:
        self._service = service
        self._is_batch = is_batch
        self._private = private
        self._is_cancelled = False

    @property
    def limit(self) -> int:
        """See `Sending`."""
        return MAX_BATCH if self._is_batch else 1

    def send(self, notifications: Sequence[Queued]) -> Answer:
        """See `Sending`."""
        if self._is_cancelled:
            return Failed("cancelled")
        try:
            self._check_addresses()
            # In this thread: the thread pool of `Apprise.notify` would hold up the end of the process.
            is_sent = self._notify("\n".join(text_of(queued.notification) for queued in notifications))
        except NotPublicError as error:
            return Failed(str(error))
        except OSError:
            return Failed("its name cannot be resolved")
        except Exception as error:  # noqa: BLE001 - of one of 130 plugins; its text may have a secret
            return Failed(f"Apprise failed: {type(error).__name__}")
        return Delivered("Apprise has sent it") if is_sent else Failed("the service did not take it")

    def cancel(self) -> None:
        """See `Sending`. A message on its way ends by Apprise's own time limits."""
        self._is_cancelled = True

    def _check_addresses(self) -> None:
        """Check the hosts that the URL names; other services have a fixed host of their own."""
        if self._private:
            return
        for host in hosts_of(self._service):
            resolve(host, self._service.port or 443, private=False)

    def _notify(self, text: str) -> bool:
        """Send a text, escaped where the service reads HTML or Markdown: it has names that users choose."""
        from apprise import conversion  # noqa: PLC0415 - as above

        body_format = self._service.resolve_format("text")
        convert: Callable[..., str] = conversion.convert_between
        body = convert("text", body_format, content=text)
        return bool(self._service.notify(body=body, title=TITLE, body_format=body_format))


def hosts_of(service: Any) -> list[str]:
    """Return the hosts that a URL of Apprise names."""
    if not any("{host}" in template for template in service.templates):
        return []
    host = getattr(service, "smtp_host", None) or service.host  # the domain of an address need not be a host
    return [host] if isinstance(host, str) and host else []
