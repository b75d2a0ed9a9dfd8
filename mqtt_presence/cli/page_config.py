"""Configuration and start messages of the live page, for `up` and `run`."""

import logging
from dataclasses import replace

from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.cli.bridge_config import bridge_config
from mqtt_presence.cli.output import plain
from mqtt_presence.mqtt.addresses import local_address
from mqtt_presence.mqtt.listening import addresses_for_others
from mqtt_presence.settings import Settings
from mqtt_presence.settings.data_directory import kept_web_token
from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.config import Monitoring, Token
from mqtt_presence.web.page_files import has_libraries
from mqtt_presence.web.visibility import takes_passwords

log = logging.getLogger(__name__)


def web_config(settings: Settings, *, mqtt_url: str | None = None, is_open: bool | None = None) -> WebConfig:
    """Return the web server's configuration.

    Args:
        settings: the command's settings.
        mqtt_url: the broker's URL for browsers; None for the embedded broker.
        is_open: whether the embedded broker accepts clients without a password; None for another broker.

    Raises:
        ConfigError: the settings would give everybody access.

    """
    of_bridge = bridge_config(settings)
    config = WebConfig(
        database=settings.database,
        host=settings.host if settings.web_host is None else settings.web_host,
        port=settings.web_port,
        prefix=settings.prefix,
        mqtt_url=mqtt_url,
        open=is_open,
        insecure=settings.insecure,
        operators=frozenset(settings.operator),
        tokens=tuple(map(Token.parse, settings.web_token)),
        origins=frozenset(settings.web_origin),
        cors=frozenset(settings.web_cors),
        proxy=settings.web_proxy,
        publish_private=settings.publish_private,
        frame_ancestors=frozenset(settings.web_frame_ancestors),
        rules=of_bridge.rules,
        confirm_within_ms=of_bridge.confirm_within_ms,
        monitoring=Monitoring.BESIDE_PAGE if settings.monitor_port is None else Monitoring.ELSEWHERE,
    )
    if config.open is False and config.is_local and config.remote_origins and not config.proxy:
        log.warning(
            "web_origin=%s looks like a reverse proxy: wrong passwords are counted by address, and"
            " a proxy has one address for all visitors, so one visitor can lock out all; have the proxy set"
            " X-Forwarded-For, and set web_proxy",
            config.remote_origins[0],
        )
    return config


def with_kept_token(config: WebConfig) -> tuple[WebConfig, bool]:
    """Give a page for other machines a token if nobody could see its operators' views otherwise.

    Returns:
        The configuration, and whether the token is new, so that the user must be told.

    Raises:
        ConfigError: the token cannot be kept.

    """
    has_token = any(token.is_operator for token in config.tokens)
    if has_token or takes_passwords(config) or not config.is_for_others:
        return config, False
    secret, is_new = kept_web_token()
    return replace(config, tokens=(*config.tokens, Token(secret))), is_new


def urls_for_others(page: WebServer) -> list[str]:
    """Return the URLs of the page for browsers on other machines."""
    config = page.config
    return [
        *config.remote_origins,
        *(_url(address, page.port) for address in addresses_for_others(config.host)),
    ]


def monitor_server(settings: Settings, monitor: Monitor) -> WebServer | None:
    """Return the server of metrics and health alone; None without `monitor_port`.

    Args:
        settings: the command's settings.
        monitor: reads the bridge.

    """
    if settings.monitor_port is None:
        return None
    config = WebConfig(
        database=settings.database,
        host=settings.monitor_host,
        port=settings.monitor_port,
        monitoring=Monitoring.ALONE,
    )
    return WebServer(config, monitor=monitor)


def page_url(page: WebServer) -> str:
    """Return the URL of the page for a browser on this machine."""
    return _url(local_address(page.config.host), page.port)


def _url(address: str, port: int) -> str:
    return f"http://{f'[{address}]' if ':' in address else address}:{port}/"


def missing_files() -> str | None:
    """Return a message if a file of the page is missing, else None. pip hides messages of the build."""
    if has_libraries():
        return None
    return (
        "the page cannot connect: its MQTT.js is missing, because the build could not fetch it. Install npm"
        " (Debian: apt-get install npm) and install mqtt-presence again; see docs/browser.md"
    )


def log_monitor(server: WebServer) -> None:
    """Log the URL of the metrics."""
    log.info("metrics are at %smetrics, health at healthz and readyz", plain(page_url(server)))


def log_page(page: WebServer) -> None:
    """Log the URL of the page."""
    log.info("the page is at %s", plain(page_url(page)))
    if (problem := missing_files()) is not None:
        log.warning("%s", problem)
