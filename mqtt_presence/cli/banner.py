"""The banner of `mqtt-presence up`: addresses of all parts, and commands to try next."""

import shlex
import shutil
import sys

from mqtt_presence.cli.output import cell, console
from mqtt_presence.cli.page_config import missing_files, page_url, urls_for_others
from mqtt_presence.embedded import EmbeddedBroker
from mqtt_presence.mqtt.addresses import local_address
from mqtt_presence.mqtt.url import BrokerUrl
from mqtt_presence.protocol.topics import LOGIN, WILL, Topics
from mqtt_presence.settings import Settings
from mqtt_presence.settings.data_directory import default_database, web_token_file
from mqtt_presence.web import WebServer


def show_banner(
    settings: Settings, broker: EmbeddedBroker, page: WebServer | None = None, *, is_new_token: bool = False
) -> None:
    """Print the banner.

    Args:
        settings: the command's settings.
        broker: the embedded broker, started.
        page: the live page, started; None without a page.
        is_new_token: whether the page's token was made at this start; it is printed once.

    """
    out = console()
    host = settings.host.strip("[]") or "0.0.0.0"  # noqa: S104, the meaning of an empty host
    rows = [("MQTT", str(BrokerUrl("mqtt", host, broker.port)))]
    if broker.ws_port is not None:
        rows.append(("WebSocket", str(BrokerUrl("ws", host, broker.ws_port, "/mqtt"))))
    if page is not None:
        rows[:0] = _page_rows(settings, page, is_new_token)
    rows.append(("Database", _without_password(settings.database)))
    rows.append(("Access", _access(broker)))
    out.print(cell("mqtt-presence is up. Ctrl-C ends it.", "bold green"))
    for name, value in rows:
        out.print(cell(f"  {name:9} "), cell(value), sep="", soft_wrap=True)
    if page is not None and (problem := missing_files()) is not None:
        out.print(cell(f"But {problem}.", "bold yellow"), soft_wrap=True)
    for purpose, line in suggestions(settings, broker):
        out.print()
        out.print(cell(f"{purpose}:", "bold"))
        out.print(cell(f"  {line}", "cyan"), soft_wrap=True)
    out.print()
    out.file.flush()


def _page_rows(settings: Settings, page: WebServer, is_new_token: bool) -> list[tuple[str, str]]:
    """Return the page's addresses, and the token that was made for its operators."""
    rows = [("Page", page_url(page))]
    if others := [url for url in urls_for_others(page) if url != page_url(page)]:
        rows.append(("  others", ", ".join(others)))
    made = page.config.tokens[len(settings.web_token) :]
    if made:
        shown = f"{made[0].secret}, kept in" if is_new_token else "in"
        rows.append(("  token", f"{shown} {web_token_file()}: for addresses and history"))
    return rows


def suggestions(settings: Settings, broker: EmbeddedBroker) -> list[tuple[str, str]]:
    """Return commands to try, each with its purpose, quoted for a shell."""
    address = local_address(settings.host)
    topics = Topics(settings.prefix)
    password = [] if broker.config.open else ["-P", "PASSWORD"]
    # The README has the same command; mosquitto_pub's own defaults are left out.
    where = [
        *([] if address == "127.0.0.1" else ["-h", address]),
        *([] if broker.port == 1883 else ["-p", broker.port]),
    ]
    publish = _shell(
        "mosquitto_pub", *where, "-u", "alice", *password, "-i", "phone", "-q", 1, "-n",
        "-t", topics.input("alice", "phone", LOGIN), "--repeat", 1000, "--repeat-delay", 20,
        "--will-topic", topics.input("alice", "phone", WILL), "--will-qos", 1,
    )  # fmt: skip
    alice = BrokerUrl("mqtt", address, broker.port, username="alice")
    shown = str(alice) if broker.config.open else str(alice).replace("@", ":PASSWORD@")
    prefix = ["--prefix", settings.prefix] if settings.prefix else []
    is_elsewhere = default_database() != settings.database
    database = ["--database", _without_password(settings.database)] if is_elsewhere else []
    return [
        ("Be online as alice, until Ctrl-C (mosquitto_pub: Debian's mosquitto-clients)", publish),
        ("See who is online, live", _shell(*program(), "watch", "--broker", shown, *prefix)),
        ("See who is online, and who was", _shell(*program(), "users", *database)),
    ]


def program() -> list[str]:
    """Return the words that start this program: its path if the shell would not find it, as in a venv."""
    name = "mqtt-presence"
    if shutil.which(name) is not None:
        return [name]
    started = sys.argv[0]
    return [started] if started.endswith(f"/{name}") else [sys.executable, "-m", "mqtt_presence"]


def _access(broker: EmbeddedBroker) -> str:
    config = broker.config
    if config.open:
        return "anyone, under any name, without a password"
    return f"with a password from {config.password_file}; mqtt-presence passwd USER sets one"


def _without_password(database: str) -> str:
    scheme, separator, rest = database.partition("://")
    credentials, at, host = rest.rpartition("@")
    if scheme == "sqlite" or not at:
        return database
    return f"{scheme}{separator}{credentials.partition(':')[0]}@{host}"


def _shell(*words: object) -> str:
    return " ".join(shlex.quote(str(word)) for word in words)
