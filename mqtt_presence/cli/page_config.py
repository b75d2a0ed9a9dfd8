"""Configuration and start messages of the live page, for `up` and `run`."""

import logging

from mqtt_presence.cli.output import plain
from mqtt_presence.mqtt.addresses import local_address
from mqtt_presence.settings import Settings
from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.application import MQTT_JS

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
    config = WebConfig(
        database=settings.database,
        host=settings.host if settings.web_host is None else settings.web_host,
        port=settings.web_port,
        prefix=settings.prefix,
        mqtt_url=mqtt_url,
        open=is_open,
        insecure=settings.insecure,
        operators=frozenset(settings.operator),
        token=settings.web_token or "",
        origins=frozenset(settings.web_origin),
        proxy=settings.web_proxy,
        publish_private=settings.publish_private,
    )
    if config.open is False and config.is_local and config.remote_origins and not config.proxy:
        log.warning(
            "web_origin=%s looks like a reverse proxy: wrong passwords are counted by address, and"
            " a proxy has one address for all visitors, so one visitor can lock out all; have the proxy set"
            " X-Forwarded-For, and set web_proxy",
            config.remote_origins[0],
        )
    return config


def page_url(page: WebServer) -> str:
    """Return the URL of the page for a browser on this machine."""
    address = local_address(page.config.host)
    return f"http://{f'[{address}]' if ':' in address else address}:{page.port}/"


def missing_files() -> str | None:
    """Return a message if a file of the page is missing, else None. pip hides messages of the build."""
    if MQTT_JS.is_file():
        return None
    return (
        "the page cannot connect: its MQTT.js is missing, because the build could not fetch it. Install npm"
        " (Debian: apt-get install npm) and install mqtt-presence again; see docs/browser.md"
    )


def log_page(page: WebServer) -> None:
    """Log the URL of the page."""
    log.info("the page is at %s", plain(page_url(page)))
    if (problem := missing_files()) is not None:
        log.warning("%s", problem)
