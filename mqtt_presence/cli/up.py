"""``mqtt-presence up``: broker, bridge and live page in one process."""

import resource
import secrets
from contextlib import ExitStack
from dataclasses import replace

from mqtt_presence.access.rights import BRIDGE_USER
from mqtt_presence.bridge.assembly import bridge
from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.cli import logs
from mqtt_presence.cli.banner import show_banner
from mqtt_presence.cli.bridge_config import bridge_config
from mqtt_presence.cli.page_config import web_config
from mqtt_presence.cli.serving import Signals, make_home
from mqtt_presence.cli.setting_options import LOG, RULES, WEB, with_settings
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import is_loopback, local_address
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.times import wall_clock
from mqtt_presence.settings import Settings
from mqtt_presence.store import Store
from mqtt_presence.tools.leftovers import end_leftovers
from mqtt_presence.web import WebServer

_ACCESS = ("host", "port", "ws", "ws_port", "open", "insecure", "password_file", "operator")
_FILES = 12_000


@with_settings(*_ACCESS, "database", *RULES, *WEB, *LOG)
def command(settings: Settings) -> None:
    """Run all in one: broker, WebSocket, bridge and live page.

    An MQTT broker for this machine or a home, the bridge on it, and a page in the browser that shows who is
    here, until SIGINT, SIGTERM or SIGHUP (its terminal is closed).

    Exit codes: 0 stopped by a signal; 1 a port is in use, the database cannot be used, or another process is
    the bridge of it; 2 a setting is wrong.
    """
    logs.start(settings)
    make_home(settings)
    _allow_many_files()
    secret = secrets.token_urlsafe(32)
    broker = EmbeddedBroker(_broker_config(settings, secret))
    store = Store(settings.database)
    page = None
    if settings.web is not False:
        page = WebServer(web_config(settings, is_open=broker.config.open), broker)
    # What enters the house last leaves it first.
    with Signals() as signals, ExitStack() as house:
        house.callback(store.close)
        store.take_seat()  # first: nobody should be let in who cannot be recorded
        house.enter_context(broker)
        config = _bridge_config(settings, broker, secret)
        end_leftovers(settings.database, store, config, wall_clock())
        if page is not None:
            house.enter_context(page)  # on the broker's loop
        show_banner(settings, broker, page)
        # Draining, the wills go out while the bridge still works: what it makes of them is kept and told.
        signals.serve(bridge(config, store, address_of=broker.client_address), broker.drain)


def _allow_many_files() -> None:
    """Each client is an open file; the usual 1024 are few, and the system lets us have more."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if most == resource.RLIM_INFINITY else min(_FILES, most)
    if few != resource.RLIM_INFINITY and few < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _broker_config(settings: Settings, secret: str) -> EmbeddedConfig:
    is_open = settings.open
    if is_open is None:
        is_open = settings.password_file is None and (settings.insecure or is_loopback(settings.host))
    elif is_open and settings.password_file is not None:
        raise ConfigError("open and password_file contradict each other: is a password needed or not?")
    return EmbeddedConfig(
        host=settings.host,
        port=settings.port,
        ws_port=settings.ws_port if settings.ws else None,
        prefix=settings.prefix,
        open=is_open,
        insecure=settings.insecure,
        password_file=None if is_open else settings.passwords,
        operators=frozenset(settings.operator),
        bridge_password=secret,
        max_connections=settings.max_connections or None,
    )


def _bridge_config(settings: Settings, broker: EmbeddedBroker, secret: str) -> BridgeConfig:
    host = local_address(settings.host)
    url = BrokerUrl("mqtt", host, broker.port, username=BRIDGE_USER, password=secret)
    return replace(
        bridge_config(settings),
        link=lambda client_id: LinkConfig(url, client_id, settings.keep_alive, mqtt5=False),
    )
