"""``mqtt-presence run``: run the bridge beside a broker, optionally with the live page."""

from collections.abc import Callable
from contextlib import ExitStack

from mqtt_presence.bridge.assembly import bridge
from mqtt_presence.bridge.monitoring.monitor import Monitor
from mqtt_presence.cli import logs
from mqtt_presence.cli.bridge_config import bridge_config, fleets, notifications
from mqtt_presence.cli.serving import ServingSignals, make_default_directory
from mqtt_presence.cli.setting_options import LOG, MONITOR, NOTIFY, RULES, TLS, WEB, with_settings
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.broker_nodes import parse_nodes
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.settings import Settings
from mqtt_presence.store import Candidate, Store


@with_settings(
    "broker",
    "database",
    "seats",
    "node",
    *RULES,
    "seat_inputs",
    "source",
    "profiles",
    *NOTIFY,
    "keep_alive",
    *TLS,
    *WEB,
    "web_mqtt_url",
    *MONITOR,
    *LOG,
)
def command(settings: Settings) -> None:
    """Run the bridge beside a broker.

    The bridge runs until SIGINT, SIGTERM or SIGHUP. After a failure of broker or database, it reconnects by
    itself. While other processes hold all seats of the database, it waits as a standby.

    Exit codes: 0 ended by a signal; 1 the broker refuses the bridge, the database cannot be used, or a port
    is in use; 2 a setting is wrong.
    """
    if settings.implicit != "off" and settings.source == "none":
        raise ConfigError("implicit counts clients by the broker's reports, and source=none reads none")
    if settings.seats > 1 and (settings.implicit != "off" or settings.source not in {"auto", "none"}):
        raise ConfigError("seats: implicit and source need one bridge: set seats=1, or leave them out")
    logs.start(settings)
    make_default_directory(settings)
    monitor = Monitor()
    with ServingSignals() as signals, ExitStack() as resources:
        is_served = settings.web or settings.monitor_port is not None
        notify = _serve_web(settings, monitor, resources) if is_served else lambda: None
        store = Store(settings.database, Candidate(settings.node, settings.seats))
        signals.serve_again(
            lambda: bridge(
                bridge_config(settings),
                store,
                fleets=fleets(settings),
                notifications=notifications(settings),
                monitor=monitor,
                on_commit=notify,
            )
        )


def _serve_web(settings: Settings, monitor: Monitor, resources: ExitStack) -> Callable[[], None]:
    """Start the page and the monitor, if they are on; return the function to call when statuses change."""
    # Imported here, because a bridge alone starts sooner without the web server.
    from mqtt_presence.cli import page_config  # noqa: PLC0415
    from mqtt_presence.web import WebServer  # noqa: PLC0415

    notify: Callable[[], None] = lambda: None  # noqa: E731
    if settings.web:
        config = page_config.web_config(settings, mqtt_url=_mqtt_url(settings))
        page = resources.enter_context(WebServer(config, monitor=monitor))
        page_config.log_page(page)
        notify = page.statuses_changed
    if (server := page_config.monitor_server(settings, monitor)) is not None:
        page_config.log_monitor(resources.enter_context(server))
    return notify


def _mqtt_url(settings: Settings) -> str:
    """Return the broker's URL for browsers, without the bridge's user and password."""
    if settings.web_mqtt_url is not None:
        return settings.web_mqtt_url
    url = parse_nodes(settings.broker)[0]
    if not url.websockets:
        raise ConfigError(
            "web needs web_mqtt_url: browsers connect by WebSocket only, e.g. to ws://broker.example:9001/"
        )
    return str(BrokerUrl(url.scheme, url.host, url.port, url.path))
