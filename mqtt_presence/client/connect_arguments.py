"""How to reach the broker: the arguments that both clients share, checked before anything is touched."""

import secrets
from dataclasses import dataclass, replace

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.tls_files import TlsFiles
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import require_name


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A broker, and as whom to connect there."""

    url: BrokerUrl
    client_id: str
    keep_alive: int
    """Seconds (MQTT 3.1.1 §3.1.2.10)."""
    tls: TlsFiles | None
    reconnect_min: float
    reconnect_max: float

    def with_name(self) -> "Endpoint":
        """Return the same with the client id as the user name, for a broker that asks for some name."""
        return replace(self, url=replace(self.url, username=self.client_id))


def make_endpoint(
    url: str | BrokerUrl,
    *,
    user: str | None,
    password: str | None,
    client_id: str | None,
    keep_alive: int,
    ca_file: str | None,
    cert_file: str | None,
    key_file: str | None,
    reconnect_min: float,
    reconnect_max: float,
) -> Endpoint:
    """Check the arguments.

    Args:
        url: ``mqtt[s]|ws[s]://user:password@host:port/path``.
        user: instead of the one in the URL.
        password: instead of the one in the URL.
        client_id: None: a random one.
        keep_alive: seconds, 1 to 65535.
        ca_file: PEM file of the authorities to trust; None: those of the system.
        cert_file: PEM file of our own certificate.
        key_file: PEM file of its key; None: it is in `cert_file`.
        reconnect_min: the first delay before a reconnect, seconds.
        reconnect_max: the longest, seconds.

    Raises:
        ConfigError: one of them is wrong; the message names it.

    """
    address = BrokerUrl.parse(url) if isinstance(url, str) else url
    username = address.username if user is None else user
    secret = address.password if password is None else password
    if secret is not None and username is None:
        raise ConfigError("password is set but no user: MQTT 3.1.1 has no password without a user")
    if client_id is None:
        client_id = f"py{secrets.token_hex(10)}"  # 22 characters: every broker takes 23 (MQTT 3.1.1 §3.1.3.1)
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
