"""``mqtt-presence run``: the bridge beside a broker."""

from mqtt_presence.bridge import Bridge
from mqtt_presence.cli import logs
from mqtt_presence.cli.options import LOG, RULES, TLS, with_settings
from mqtt_presence.cli.serving import Signals, make_home
from mqtt_presence.settings import Settings
from mqtt_presence.store import Store


@with_settings("broker", "database", *RULES, "source", "keep_alive", *TLS, *LOG)
def command(settings: Settings) -> None:
    """Run the bridge beside a broker.

    Until SIGINT or SIGTERM; it comes back by itself when broker or database were away.

    Exit codes: 0 stopped by a signal; 1 the broker refuses us, or the database cannot be used;
    2 a setting is wrong.
    """
    logs.start(settings)
    make_home(settings)
    with Signals() as signals:
        signals.serve(Bridge(settings.bridge(), Store(settings.database)))
