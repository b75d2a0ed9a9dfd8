"""``mqtt-presence init-broker``: write a broker's configuration, rights, passwords and certificates."""

import os
import shlex
import shutil
import socket
from pathlib import Path
from typing import Annotated

import typer

from mqtt_presence.cli.banner import program
from mqtt_presence.cli.output import print_error, print_line
from mqtt_presence.cli.setting_options import with_settings
from mqtt_presence.errors import ConfigError
from mqtt_presence.mqtt.addresses import is_loopback
from mqtt_presence.protocol.topics import Topics
from mqtt_presence.settings import Settings
from mqtt_presence.tools.init_broker import mosquitto_files
from mqtt_presence.tools.init_broker.file_installer import install
from mqtt_presence.tools.init_broker.file_plan import FilePlan, Tls

KNOWN = ("mosquitto",)
BY_HAND = ("ejabberd", "rabbitmq", "nats", "aedes", "emqx", "hivemq")
"""Brokers with files in broker_config/ that are installed by hand."""

_NAME = {"metavar": "NAME", "show_default": False}


@with_settings("prefix")
def command(
    settings: Settings,
    *,
    broker: Annotated[str, typer.Argument(help="The kind of broker: mosquitto.", show_default=False)],
    directory: Annotated[
        Path,
        typer.Option(
            "--dir",
            help="The directory for the files; created if missing.",
            show_default=False,
            readable=False,
        ),
    ],
    user: Annotated[
        list[str] | None, typer.Option(help="A user who gets a password; repeatable.", **_NAME)
    ] = None,
    operator: Annotated[
        list[str] | None,
        typer.Option(help="A user who may also read events; repeatable. [default: operator]", **_NAME),
    ] = None,
    listen: Annotated[
        str,
        typer.Option(
            help="The IP address for connections without TLS; empty: all addresses.", metavar="ADDRESS"
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The TCP port for connections without TLS.")] = 1883,
    ws: Annotated[
        bool, typer.Option("--ws/--no-ws", help="Accept WebSocket connections too, for browsers.")
    ] = True,
    ws_port: Annotated[int, typer.Option(help="The WebSocket port for connections without TLS.")] = 9001,
    tls: Annotated[
        bool,
        typer.Option(
            "--tls", help="Also listen with TLS, on all addresses, with a new private certificate authority."
        ),
    ] = False,
    host: Annotated[
        list[str] | None,
        typer.Option(
            help="With --tls: a name or address of the broker for its certificate; repeatable.", **_NAME
        ),
    ] = None,
    tls_port: Annotated[int, typer.Option(help="With --tls: the TCP port.")] = 8883,
    wss_port: Annotated[int, typer.Option(help="With --tls: the WebSocket port.")] = 8884,
    client_certificates: Annotated[
        bool,
        typer.Option(
            "--client-certificates",
            help="With --tls: a certificate for the bridge and each user, instead of passwords.",
        ),
    ] = False,
    run_as: Annotated[
        str | None,
        typer.Option(
            help="The account under which the broker runs if root starts it. [default as root: mosquitto]",
            metavar="ACCOUNT",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace existing files; all passwords and certificates are new.")
    ] = False,
) -> None:
    """Write a broker's configuration, ready to start.

    The directory gets the rights, new passwords, certificates, and the bridge's settings. The command then
    prints the two commands that start broker and bridge, and the files with secrets.

    Exit codes: 0 written; 2 an option is wrong, or the directory cannot be used.
    """
    _require_known(broker)
    if not tls and (host or client_certificates):
        raise ConfigError(f"{'host' if host else 'client-certificates'}: needs --tls")
    plan = FilePlan(
        directory=_absolute(directory),
        users=tuple(dict.fromkeys(user or ())),
        operators=tuple(dict.fromkeys(operator or ("operator",))),
        prefix=Topics(settings.prefix).prefix,
        address=listen,
        port=port,
        ws_port=ws_port if ws else None,
        tls=Tls(tls_port, wss_port if ws else None, tuple(host or ()), client_certificates) if tls else None,
        run_as=_account(run_as),
    )
    install(
        plan.directory, mosquitto_files.files(plan), mosquitto_files.DATA, run_as=plan.run_as, force=force
    )
    _print_summary(plan)


def _absolute(directory: Path) -> Path:
    try:
        return directory.expanduser().absolute()
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"dir={directory}: {error}") from None


def _require_known(broker: str) -> None:
    if broker in KNOWN:
        return
    if broker in BY_HAND:
        raise ConfigError(
            f"broker={broker}: init-broker writes files for {', '.join(KNOWN)} only; those of "
            f"{broker} are in broker_config/{broker}/ of the source, to be installed by hand"
        )
    raise ConfigError(f"broker={broker}: init-broker knows {', '.join(KNOWN)}")


def _account(run_as: str | None) -> str | None:
    if os.geteuid() != 0:
        if run_as is not None:
            raise ConfigError(f"run-as={run_as}: only root can give files to another account")
        return None
    return run_as if run_as is not None else "mosquitto"


def _print_summary(plan: FilePlan) -> None:
    directory = plan.directory
    print_line(f"Written to {directory}:")
    rows = [
        (mosquitto_files.BRIDGE, "the bridge's settings, with its password"),
        (mosquitto_files.PASSWORDS, f"the passwords of {', '.join(plan.users_and_operators)}"),
        (mosquitto_files.CONFIG, "the broker's settings; acl has the rights, passwd the password hashes"),
    ]
    if plan.tls is not None:
        rows.append(
            (
                mosquitto_files.CA,
                "the certificate that clients must trust; keep tls/ca.key away from the broker",
            )
        )
        if plan.tls.client_certificates:
            rows.append(("tls/clients/", "a certificate and a key for each user"))
    for name, contents in rows:
        print_line(f"  {name:15} {contents}")
    print_line("")
    print_line("Start the broker, then the bridge:")
    print_line(f"  {shlex.join([_mosquitto(), '-c', str(directory / mosquitto_files.CONFIG)])}")
    print_line(f"  {shlex.join([*program(), 'run', '--config', str(directory / mosquitto_files.BRIDGE)])}")
    if not is_loopback(plan.address):
        print_error(
            f"listen={plan.address or 'all addresses'}: passwords cross the network in the clear: use --tls, "
            "and keep the listeners without TLS on 127.0.0.1"
        )
    for name, port in plan.ports.items():
        if port is not None and _is_taken(plan.address, port):
            print_error(
                f"{name}={port} is in use: stop the program that listens there, or choose another port"
            )


def _mosquitto() -> str:
    """Return the command that starts mosquitto; Debian installs it outside of an ordinary user's PATH."""
    if shutil.which("mosquitto") is not None:
        return "mosquitto"
    found = shutil.which("mosquitto", path="/usr/local/sbin:/usr/sbin")
    if found is None:
        print_error(
            "mosquitto is not installed here: install it, 2.0 or newer, e.g. apt-get install mosquitto"
        )
    return found or "mosquitto"


def _is_taken(address: str, port: int) -> bool:
    try:
        socket.create_connection((address or "127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
