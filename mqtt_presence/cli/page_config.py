"""The live page as `up` and `run` serve it: its configuration, of the settings."""

import logging

from mqtt_presence.cli.output import plain
from mqtt_presence.mqtt.addresses import local_address
from mqtt_presence.settings import Settings
from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.application import MQTT_JS

log = logging.getLogger(__name__)


def web_config(settings: Settings, *, mqtt_url: str | None = None, is_open: bool | None = None) -> WebConfig:
    """Make the web server's configuration.

    Args:
        settings: of the command.
        mqtt_url: the broker as browsers reach it; None: it is in this process.
        is_open: that broker asks for no password; None: it is another one, and nobody knows.

    Raises:
        ConfigError: strangers would be let in.

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
    if config.open is False and config.is_local and config.strangers and not config.proxy:
        log.warning(
            "web_origin=%s looks like a reverse proxy: for wrong passwords all who come through it are one,"
            " so that one can shut out all; let it set X-Forwarded-For, and set web_proxy",
            config.strangers[0],
        )
    return config


def url(page: WebServer) -> str:
    """Say where a browser on this machine finds it."""
    here = local_address(page.config.host)
    return f"http://{f'[{here}]' if ':' in here else here}:{page.port}/"


def lacking() -> str | None:
    """Say what the page cannot work without and is not there; None: all is. pip hides it when it builds."""
    if MQTT_JS.is_file():
        return None
    return (
        "the page cannot connect: its MQTT.js is missing, as the build could not fetch it. Install npm"
        " (Debian: apt-get install npm) and install mqtt-presence again; docs/browser.md says more"
    )


def announce(page: WebServer) -> None:
    """Log it."""
    log.info("the page is at %s", plain(url(page)))
    if (why := lacking()) is not None:
        log.warning("%s", why)
