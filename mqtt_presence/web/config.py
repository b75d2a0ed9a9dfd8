"""The settings of the web server, checked together: what would open the house by accident is refused."""

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import is_local_name, is_loopback

MQTT_PATH = "mqtt"
"""Where MQTT is on this server; as the page is told, relative to itself: a proxy may put all below a path."""
HISTORY_HOURS = 24
"""How far back the page's timelines go."""


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Settings of the web server.

    Args:
        database: the URL of the bridge's database; it is only read.
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.
        prefix: what stands before every topic (contract section 1).
        mqtt_url: the broker as browsers reach it; None: it is served here, at `MQTT_PATH`.
        open: the broker asks for no password; None: not known, it is another one.
        insecure: allow ``open`` beyond loopback.
        operators: the users whose password opens the API.
        token: opens the API too; empty: nothing does.
        origins: other addresses of the page, and other pages that may connect: ``https://host[:port]``.
        proxy: there is a reverse proxy on this machine, and ``X-Forwarded-For`` tells who has come to it.
        publish_private: addresses and user agents are in the public status anyway.

    Raises:
        ConfigError: they would let strangers in who need no password.

    """

    database: str
    host: str = "127.0.0.1"
    port: int = 8080
    prefix: str = ""
    mqtt_url: str | None = None
    open: bool | None = None
    insecure: bool = False
    operators: frozenset[str] = frozenset()
    token: str = field(default="", repr=False)
    origins: frozenset[str] = frozenset()
    proxy: bool = False
    publish_private: bool = False

    def __post_init__(self) -> None:
        if not self.open or self.insecure:
            return
        if not self.is_local:
            raise ConfigError(
                f"web_host={self.host!r} is reachable from other machines and the broker asks no password of"
                " anyone: set a password_file, or insecure if that is what you want"
            )
        if self.strangers:
            raise ConfigError(
                f"web_origin={self.strangers[0]} lets people from elsewhere in and the broker asks no"
                " password of anyone: set a password_file, or insecure if that is what you want"
            )
        if self.proxy:
            raise ConfigError(
                "web_proxy lets people from elsewhere in and the broker asks no password of anyone: set a"
                " password_file, or insecure if that is what you want"
            )

    @property
    def is_local(self) -> bool:
        """It listens for this machine alone."""
        return is_loopback(self.host)

    @property
    def strangers(self) -> list[str]:
        """The origins that are not on this machine: a proxy brings people from elsewhere."""
        return sorted(o for o in self.origins if not is_local_name(urlsplit(o).hostname or ""))
