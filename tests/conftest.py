"""The fixtures that tests with real brokers and real databases share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import Embedded, Mosquitto
from tests.support.postgres import Postgres

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
