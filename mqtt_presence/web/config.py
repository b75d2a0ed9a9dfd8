"""Configuration of the web server; combinations that would admit everybody by accident are refused."""

import enum
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import is_local_name, is_loopback
from mqtt_presence.rules.model import RuleSettings

MQTT_PATH = "mqtt"
"""Path of MQTT on this server, relative to the page: a proxy may move both below another path."""


class Monitoring(enum.Enum):
    """The place of metrics and health."""

    BESIDE_PAGE = "beside"
    """On the page's port; metrics are for operators."""
    ELSEWHERE = "elsewhere"
    """On another port (settings `monitor_host`, `monitor_port`)."""
    ALONE = "alone"
    """This is that other port: no page, and metrics are for everybody who reaches it."""


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that opens the API.

    Args:
        secret: sent in each request.
        is_operator: whether it opens everything; otherwise the statuses, as all users see them by MQTT.

    """

    secret: str = field(repr=False)
    is_operator: bool = True

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Return the token in a value of the setting `web_token`: ``[status:|operator:]SECRET``."""
        scope, colon, secret = text.partition(":")
        return cls(secret, scope != "status") if colon else cls(text)


@dataclass(frozen=True, slots=True)
class WebConfig:
    """Settings of the web server.

    Args:
        database: the URL of the bridge's database, used for reading, and to forget users.
        host: the address to listen on.
        port: the TCP port; 0 takes any free one.
        prefix: the beginning of every topic (docs/protocol.md, "Topics").
        mqtt_url: the URL of the broker for browsers; None for the embedded broker, at `MQTT_PATH`.
        open: whether the broker asks for no password; None for another broker, where that is unknown.
        insecure: allow ``open`` beyond loopback.
        operators: the users whose password opens the API.
        tokens: open the API, too.
        origins: other addresses of the page, and other pages that may connect: ``https://host[:port]``.
        cors: origins whose pages' scripts may call the API, beside those of `origins`.
        proxy: whether a reverse proxy on this machine adds the client's address to ``X-Forwarded-For``.
        publish_private: whether the public status contains addresses and user agents.
        frame_ancestors: pages that may show this one in a frame, as origins.
        rules: the bridge's thresholds, for explanations.
        confirm_within_ms: the bridge's time to answer an announcement.
        mqtt_port: the embedded broker's TCP port, for the instructions of the page; None if unknown.
        monitoring: what the server has besides the page, or instead of it.

    Raises:
        ConfigError: other machines could connect without a password.

    """

    database: str
    host: str = "127.0.0.1"
    port: int = 8080
    prefix: str = ""
    mqtt_url: str | None = None
    open: bool | None = None
    insecure: bool = False
    operators: frozenset[str] = frozenset()
    tokens: tuple[Token, ...] = field(default=(), repr=False)
    origins: frozenset[str] = frozenset()
    cors: frozenset[str] = frozenset()
    proxy: bool = False
    publish_private: bool = False
    frame_ancestors: frozenset[str] = frozenset()
    rules: RuleSettings = field(default_factory=RuleSettings)
    confirm_within_ms: int = 30_000
    mqtt_port: int | None = None
    monitoring: Monitoring = Monitoring.BESIDE_PAGE

    def __post_init__(self) -> None:
        if not self.open or self.insecure:
            return
        if not self.is_local:
            raise ConfigError(
                f"web_host={self.host!r} is reachable from other machines and the broker asks no password of"
                " anyone: set a password_file, or insecure if that is what you want"
            )
        if self.remote_origins:
            raise ConfigError(
                f"web_origin={self.remote_origins[0]} lets people from elsewhere in and the broker asks no"
                " password of anyone: set a password_file, or insecure if that is what you want"
            )
        if self.proxy:
            raise ConfigError(
                "web_proxy lets people from elsewhere in and the broker asks no password of anyone: set a"
                " password_file, or insecure if that is what you want"
            )

    @property
    def is_local(self) -> bool:
        """Whether the server listens on loopback only."""
        return is_loopback(self.host)

    @property
    def is_for_others(self) -> bool:
        """Whether other machines can reach the page, directly or through a proxy."""
        return not self.is_local or self.proxy or bool(self.remote_origins)

    @property
    def remote_origins(self) -> list[str]:
        """The origins on other machines, whose visitors come through a proxy."""
        return sorted(o for o in self.origins if not is_local_name(urlsplit(o).hostname or ""))
