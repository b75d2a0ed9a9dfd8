"""``mqtt-presence up``: run broker, bridge and live page in one process."""

import resource
import secrets
from contextlib import ExitStack
from dataclasses import replace

from mqtt_presence.access.rights import BRIDGE_USER
from mqtt_presence.adapters.registry import AUTO, EMBEDDED
from mqtt_presence.bridge.assembly import Assembly
from mqtt_presence.bridge.config import BridgeConfig
from mqtt_presence.bridge.link.config import LinkConfig
from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.cli import logs
from mqtt_presence.cli.banner import show_banner
from mqtt_presence.cli.bridge_config import bridge_config, fleets, notifications
from mqtt_presence.cli.page_config import log_monitor, monitor_server, web_config, with_kept_token
from mqtt_presence.cli.serving import ServingSignals, make_default_directory
from mqtt_presence.cli.setting_options import LOG, MONITOR, NOTIFY, RULES, WEB, with_settings
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.embedded.config import MAX_PACKET_SIZE
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


@with_settings(*_ACCESS, "database", *RULES, "profiles", *NOTIFY, *WEB, *MONITOR, *LOG)
def command(settings: Settings) -> None:
    """Run broker, WebSocket, bridge and live page in one process.

    The MQTT broker is meant for this machine or a home network. The live page shows in a browser who is
    online. Everything runs until SIGINT, SIGTERM or SIGHUP (sent when the terminal is closed).

    Exit codes: 0 ended by a signal; 1 a port is in use, the database cannot be used, or another process is
    its bridge; 2 a setting is wrong.
    """
    logs.start(settings)
    make_default_directory(settings)
    _allow_many_files()
    secret = secrets.token_urlsafe(32)
    receivers = notifications(settings)
    broker = EmbeddedBroker(_broker_config(settings, secret))
    store = Store(settings.database)
    devices = fleets(settings)
    monitor = Monitor()
    page, is_new_token = None, False
    if settings.web is not False:
        page_config, is_new_token = with_kept_token(web_config(settings, is_open=broker.config.open))
        page = WebServer(page_config, broker, monitor)
    elsewhere = monitor_server(settings, monitor)
    with ServingSignals() as signals, ExitStack() as resources:
        resources.callback(store.close)
        store.take_seat()  # before the broker accepts clients that could not be recorded
        resources.enter_context(broker)
        config = _bridge_config(settings, broker, secret)
        parts = Assembly(
            config,
            store,
            address_of=broker.client_address,
            fleets=devices,
            notifications=receivers,
            monitor=monitor,
            on_commit=(lambda: None) if page is None else page.statuses_changed,
        )
        end_leftovers(settings.database, store, config, wall_clock(), parts.notifications.recorder)
        if page is not None:
            resources.enter_context(page)  # runs on the broker's event loop
        if elsewhere is not None:
            resources.enter_context(elsewhere)
        show_banner(settings, broker, page, is_new_token=is_new_token)
        if elsewhere is not None:
            log_monitor(elsewhere)
        # Drained before the bridge stops, so that the bridge still records and publishes all wills.
        signals.serve(parts.bridge, broker.drain)


def _allow_many_files() -> None:
    """Raise the limit of open files, usually 1024: each client is an open file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _broker_config(settings: Settings, secret: str) -> EmbeddedConfig:
    profiles = next(iter(fleets(settings)), None)  # its own one: the bridge runs in another thread
    is_open = settings.open
    if is_open is None:
        is_open = settings.password_file is None and (settings.insecure or is_loopback(settings.host))
    elif is_open and settings.password_file is not None:
        raise ConfigError("open and password_file contradict each other: set one of them only")
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
        profiles=profiles,
        max_packet_size=max(MAX_PACKET_SIZE, profiles.max_packet if profiles is not None else 0),
        discovery_prefix=settings.homeassistant_prefix if settings.homeassistant else None,
    )


def _bridge_config(settings: Settings, broker: EmbeddedBroker, secret: str) -> BridgeConfig:
    host = local_address(settings.host)
    url = BrokerUrl("mqtt", host, broker.port, username=BRIDGE_USER, password=secret)
    config = bridge_config(settings)
    return replace(
        config,
        source=AUTO if config.implicit is None else EMBEDDED,
        link=lambda client_id: LinkConfig((url,), client_id, settings.keep_alive, mqtt5=False),
        broker_starts_empty=True,
    )
