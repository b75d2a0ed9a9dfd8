"""What `mqtt-presence up` says when it is up: where everything is, and what to try next."""

import shlex
import shutil
import sys

from mqtt_presence.cli.output import cell, console
from mqtt_presence.cli.page_config import lacking, url
from mqtt_presence.embedded import EmbeddedBroker
from mqtt_presence.mqtt.addresses import local_address
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import LOGIN, WILL, Topics
from mqtt_presence.settings import Settings
from mqtt_presence.settings.data_directory import default_database
from mqtt_presence.web import WebServer


def show_banner(settings: Settings, broker: EmbeddedBroker, page: WebServer | None = None) -> None:
    """Print it.

    Args:
        settings: of the command.
        broker: started.
        page: started; None: there is none.

    """
    out = console()
    host = settings.host.strip("[]") or "0.0.0.0"  # noqa: S104, it is what an empty host means
    rows = [("MQTT", str(BrokerUrl("mqtt", host, broker.port)))]
    if broker.ws_port is not None:
        rows.append(("WebSocket", str(BrokerUrl("ws", host, broker.ws_port, "/mqtt"))))
    if page is not None:
        rows.insert(0, ("Page", url(page)))
    rows.append(("Database", _without_password(settings.database)))
    rows.append(("Access", _access(broker)))
    out.print(cell("mqtt-presence is up. Ctrl-C ends it.", "bold green"))
    for name, value in rows:
        out.print(cell(f"  {name:9} "), cell(value), sep="", soft_wrap=True)
    if page is not None and (why := lacking()) is not None:
        out.print(cell(f"But {why}.", "bold yellow"), soft_wrap=True)
    for what, line in commands(settings, broker):
        out.print()
        out.print(cell(f"{what}:", "bold"))
        out.print(cell(f"  {line}", "cyan"), soft_wrap=True)
    out.print()
    out.file.flush()


def commands(settings: Settings, broker: EmbeddedBroker) -> list[tuple[str, str]]:
    """Say what to try, ready to be pasted into a shell."""
    here = local_address(settings.host)
    topics = Topics(settings.prefix)
    password = [] if broker.config.open else ["-P", "PASSWORD"]
    be_there = _shell(
        "mosquitto_pub", "-h", here, "-p", broker.port, "-u", "alice", *password, "-i", "alice-phone",
        "-q", 1, "-l", "-t", topics.input("alice", "alice-phone", LOGIN), "--will-qos", 1,
        "--will-topic", topics.input("alice", "alice-phone", WILL),
    )  # fmt: skip
    alice = BrokerUrl("mqtt", here, broker.port, username="alice")
    shown = str(alice) if broker.config.open else str(alice).replace("@", ":PASSWORD@")
    prefix = ["--prefix", settings.prefix] if settings.prefix else []
    elsewhere = default_database() != settings.database
    database = ["--database", _without_password(settings.database)] if elsewhere else []
    return [
        ("Be there as alice, until Ctrl-D or Ctrl-C", f"(echo {{}}; cat) | {be_there}"),
        ("See who is there, live", _shell(*program(), "watch", "--broker", shown, *prefix)),
        ("See who is there, and who was", _shell(*program(), "users", *database)),
    ]


def program() -> list[str]:
    """Say how to start this command again: as it was, where the shell would not find it (a venv)."""
    name = "mqtt-presence"
    if shutil.which(name) is not None:
        return [name]
    started = sys.argv[0]
    return [started] if started.endswith(f"/{name}") else [sys.executable, "-m", "mqtt_presence"]


def _access(broker: EmbeddedBroker) -> str:
    config = broker.config
    if config.open:
        return "anyone, under the name they give, without a password"
    return f"with the passwords in {config.password_file}; mqtt-presence passwd USER adds one"


def _without_password(database: str) -> str:
    scheme, separator, rest = database.partition("://")
    credentials, at, where = rest.rpartition("@")
    if scheme == "sqlite" or not at:
        return database
    return f"{scheme}{separator}{credentials.partition(':')[0]}@{where}"


def _shell(*words: object) -> str:
    return " ".join(shlex.quote(str(word)) for word in words)
