"""The fixtures that tests with real brokers and real databases share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import Embedded, Mosquitto
from tests.support.commands import Commands
from tests.support.postgres import Postgres

os.environ["XDG_CONFIG_HOME"] = os.devnull  # no test reads the settings of the user who runs it


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Undo what a command that was run within the tests did to the logging of this process."""
    root, ours = logging.getLogger(), logging.getLogger("mqtt_presence")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    for handler in root.handlers[:]:
        if handler not in handlers:
            root.removeHandler(handler)
    for handler in handlers:
        if handler not in root.handlers:
            root.addHandler(handler)
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


BROKERS = ("mosquitto", "embedded")


def make_broker(kind: str, directory: Path) -> Mosquitto | Embedded:
    """Make a broker of either kind."""
    return Mosquitto(directory / "mosquitto") if kind == "mosquitto" else Embedded()


@pytest.fixture(params=BROKERS)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto | Embedded]:
    """Run a fresh broker, of each kind in turn."""
    with make_broker(request.param, tmp_path) as started:
        yield started


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """Run a fresh mosquitto."""
    with Mosquitto(tmp_path / "mosquitto") as started:
        yield started


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run PostgreSQL; there being none is a failure."""
    with Postgres() as cluster:
        yield cluster


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'presence.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a fresh, empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'presence.db'}"
    cluster: Postgres = request.getfixturevalue("postgres")
    return cluster.database()


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    directory = tmp_path / "commands"
    directory.mkdir()
    made = Commands(directory)
    yield made
    made.close()
