"""Secrets: in no log, no error, no repr, no list of processes; and files that nobody else reads."""

import logging
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from mqtt_presence.bridge.assembly import bridge
from mqtt_presence.cli import logs
from mqtt_presence.cli.bridge_config import bridge_config, link_config
from mqtt_presence.embedded import EmbeddedConfig
from mqtt_presence.errors import PresenceError
from mqtt_presence.settings import load
from mqtt_presence.store import Store
from tests.support.brokers import Mosquitto
from tests.support.commands import Commands, Running
from tests.support.postgres import query
from tests.support.waiting import free_port, until

SECRET = "s3cr3t"


def test_repr_shows_no_password() -> None:
    """Configurations end in tracebacks and debuggers: neither passwords nor the bridge's client id are in them."""
    settings = load(
        {"broker": f"mqtt://bridge:{SECRET}@h", "database": f"postgresql://presence:{SECRET}@h/n"}
    )
    shown: list[Any] = [
        settings,
        link_config(settings, f"bridge-{SECRET}"),
        bridge_config(settings),
        EmbeddedConfig(bridge_password=SECRET),
        bridge(bridge_config(settings), Store("sqlite:///none.db")),
    ]
    for thing in shown:
        assert SECRET not in f"{thing!r} {thing!s}", type(thing)


@pytest.mark.parametrize("name", ["no_such_user", "postgres"])
def test_database_password_is_in_no_error(name: str) -> None:
    """Nothing that a driver says of a server that is not there is passed on with the password in it."""
    store = Store(f"postgresql://{name}:{SECRET}@127.0.0.1:{free_port()}/presence")
    with pytest.raises(PresenceError) as caught:
        store.open()
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


def start_run(commands: Commands, how: str, broker_url: str, database: str) -> Running:
    """Start a bridge that has its settings from the environment or from a file."""
    if how == "environment":
        return commands.start(
            "run", "--log-level", "debug", MQTT_PRESENCE_BROKER=broker_url, MQTT_PRESENCE_DATABASE=database
        )
    config = commands.directory / "presence.toml"
    config.touch(0o600)
    config.write_text(f'broker = "{broker_url}"\ndatabase = "{database}"\nlog_level = "debug"\n')
    return commands.start("run", "--config", str(config))


@pytest.mark.parametrize("how", ["environment", "file"])
def test_running_bridge_tells_no_secret(commands: Commands, tmp_path: Path, how: str) -> None:
    """Neither `ps` nor the log, not at level debug either, shows the password or the bridge's client id."""
    url = f"sqlite:///{tmp_path / 'presence.db'}"
    with Mosquitto(tmp_path / "mosquitto", users={"bridge": SECRET}) as broker:
        broker_url = f"mqtt://bridge:{SECRET}@127.0.0.1:{broker.port}"
        running = start_run(commands, how, broker_url, url)
        running.says("connected to")
        (row,) = query(url, "SELECT client_id FROM seats")
        command_line = Path(f"/proc/{running.process.pid}/cmdline").read_bytes().decode()
        broker.stop()  # so that it says what it says of errors, too
        running.says("lost")
        running.says("cannot reach")
        running.end()
        for told in (command_line, running.out, running.err):
            assert SECRET not in told
            assert row["client_id"] not in told
        assert len(row["client_id"]) >= 32
    mode = stat.S_IMODE(Path(f"/proc/{os.getpid()}/environ").stat().st_mode)
    assert mode == 0o400, "who has no right to this process does not read its environment"


def test_files_are_for_their_owner_only(commands: Commands, tmp_path: Path, mosquitto: Mosquitto) -> None:
    """Whatever the umask says: directory, database, its log, its index and its lock."""
    before = os.umask(0)
    try:
        running = commands.start("run", "--broker", mosquitto.url)
    finally:
        os.umask(before)
    running.says("connected to")
    home = commands.directory / "data" / "mqtt-presence"
    until(lambda: len(list(home.iterdir())) == 4, "database, -wal, -shm and -lock are there")
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in home.iterdir()} == {0o600}
    running.end()


def test_trace_cannot_imitate_a_line_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """What an error quotes is set in and escaped: no line of it looks like one that the bridge has written."""
    before = logging.getLogger().handlers[:]
    forged = "2026-11-25T00:00:00.000Z info    link: connected"
    try:
        logs.start(load({}))
        try:
            int(f"x\n{forged}\x85{forged}\u2028{forged}\x1b[2J")
        except ValueError:
            logging.getLogger("mqtt_presence.bridge").exception("a message cannot be processed")
    finally:
        logging.basicConfig(handlers=before, force=True, level=logging.WARNING)
        logging.getLogger("mqtt_presence").setLevel(logging.NOTSET)
    lines = capsys.readouterr().err.split("\n")
    assert len([line for line in lines if re.match(r"\d{4}-", line)]) == 1
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", "".join(lines))
