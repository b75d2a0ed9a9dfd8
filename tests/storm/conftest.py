"""The broker of the kill test: mosquitto with the shipped configuration."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.brokers import Shipped


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Shipped]:
    """Run a fresh mosquitto as `init-broker` sets it up."""
    with Shipped(tmp_path / "mosquitto") as started:
        yield started
