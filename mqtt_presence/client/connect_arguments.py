"""Arguments for a connection to the broker: shared by both clients, and checked before connecting.

Both clients repeat these arguments in their signatures, so that editors and `help` show them.
"""

import secrets
from dataclasses import dataclass, replace

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import require_name


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker, and the user and client id to connect with."""

    url: BrokerUrl
    client_id: str
    keep_alive: int
    """Seconds (MQTT 3.1.1 §3.1.2.10)."""
    tls: TlsFiles | None
    reconnect_min: float
    reconnect_max: float

    def with_name(self) -> "Endpoint":
        """Return a copy with the client id as the user name, for brokers that require some user name."""
        return replace(self, url=replace(self.url, username=self.client_id))


def make_endpoint(
    url: str | BrokerUrl,
    *,
    user: str | None = None,
    password: str | None = None,
    client_id: str | None = None,
    keep_alive: int = 30,
    ca_file: str | None = None,
    cert_file: str | None = None,
    key_file: str | None = None,
    reconnect_min: float = 1.0,
    reconnect_max: float = 30.0,
) -> Endpoint:
    """Check the arguments and return the endpoint.

    Args:
        url: ``mqtt[s]|ws[s]://user:password@host:port/path``.
        user: overrides the user in the URL.
        password: overrides the password in the URL.
        client_id: default: a random one.
        keep_alive: seconds, 1 to 65535.
        ca_file: PEM file of the certificate authorities to trust; default: those of the system.
        cert_file: PEM file of the client's certificate.
        key_file: PEM file of the certificate's private key; default: `cert_file`.
        reconnect_min: the first delay before a reconnect, seconds; later delays double, with jitter.
        reconnect_max: the longest delay, seconds.

    Raises:
        ConfigError: an argument is wrong; the message names it.

    """
    address = BrokerUrl.parse(url) if isinstance(url, str) else url
    username = address.username if user is None else user
    secret = address.password if password is None else password
    if secret is not None and username is None:
        raise ConfigError("password is set but no user: MQTT 3.1.1 has no password without a user")
    if client_id is None:
        client_id = (
            f"py{secrets.token_hex(10)}"  # 22 characters: every broker accepts 23 (MQTT 3.1.1 §3.1.3.1)
        )
    if not 1 <= keep_alive <= 65535:
        raise ConfigError(f"keep_alive={keep_alive} must be 1 to 65535 seconds")
    if not 0 < reconnect_min <= reconnect_max:
        raise ConfigError(
            f"reconnect_min={reconnect_min} must be seconds above 0 and at most reconnect_max={reconnect_max}"
        )
    return Endpoint(
        url=BrokerUrl(address.scheme, address.host, address.port, address.path, username, secret),
        client_id=require_name("client_id", client_id),
        keep_alive=keep_alive,
        tls=_tls(address, ca_file, cert_file, key_file),
        reconnect_min=reconnect_min,
        reconnect_max=reconnect_max,
    )


def _tls(url: BrokerUrl, ca_file: str | None, cert_file: str | None, key_file: str | None) -> TlsFiles | None:
    if not url.tls:
        for name, value in (("ca_file", ca_file), ("cert_file", cert_file), ("key_file", key_file)):
            if value is not None:
                raise ConfigError(
                    f"{name} is set but {url.scheme}:// is not encrypted: use mqtts:// or wss://"
                )
        return None
    if key_file is not None and cert_file is None:
        raise ConfigError("key_file is set but no cert_file")
    return TlsFiles(ca_file, cert_file, key_file)
