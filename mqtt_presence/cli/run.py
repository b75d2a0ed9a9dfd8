"""``mqtt-presence run``: the bridge beside a broker, with the live page if it is wanted."""

from contextlib import ExitStack

from mqtt_presence.bridge.assembly import bridge
from mqtt_presence.cli import logs
from mqtt_presence.cli.bridge_config import bridge_config, fleets
from mqtt_presence.cli.serving import Signals, make_home
from mqtt_presence.cli.setting_options import LOG, RULES, TLS, WEB, with_settings
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.settings import Settings
from mqtt_presence.store import Store


@with_settings(
    "broker", "database", *RULES, "source", "profiles", "keep_alive", *TLS, *WEB, "web_mqtt_url", *LOG
)
def command(settings: Settings) -> None:
    """Run the bridge beside a broker.

    Until SIGINT, SIGTERM or SIGHUP; it comes back by itself when broker or database were away.

    Exit codes: 0 stopped by a signal; 1 the broker refuses us, the database cannot be used, another process
    is the bridge of it, or the page's port is in use; 2 a setting is wrong.
    """
    logs.start(settings)
    make_home(settings)
    with Signals() as signals, ExitStack() as house:
        if settings.web:
            _serve_page(settings, house)
        signals.serve(bridge(bridge_config(settings), Store(settings.database), fleets=fleets(settings)))


def _serve_page(settings: Settings, house: ExitStack) -> None:
    # Imported here: a bridge without a page starts sooner without a web server.
    from mqtt_presence.cli import page_config  # noqa: PLC0415
    from mqtt_presence.web import WebServer  # noqa: PLC0415

    config = page_config.web_config(settings, mqtt_url=_mqtt_url(settings))
    page_config.announce(house.enter_context(WebServer(config)))


def _mqtt_url(settings: Settings) -> str:
    """Say where browsers find the broker; never with the bridge's own user and password."""
    if settings.web_mqtt_url is not None:
        return settings.web_mqtt_url
    url = BrokerUrl.parse(settings.broker)
    if not url.websockets:
        raise ConfigError(
            "web needs web_mqtt_url: browsers reach a broker by WebSocket only, e.g. ws://broker.example:9001/"
        )
    return str(BrokerUrl(url.scheme, url.host, url.port, url.path))
