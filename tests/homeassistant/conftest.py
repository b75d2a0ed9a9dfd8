"""A broker with Home Assistant's rights, and a Home Assistant on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.homeassistant.hass import HomeAssistant
from tests.support.brokers import PASSWORD, Shipped

USER = "homeassistant"
SHIPPED = Path(__file__).parents[2] / "broker_config/mosquitto/acl"


class ForHomeAssistant(Shipped):
    """mosquitto as `init-broker` sets it up, with the shipped comment about Home Assistant made valid."""

    def _configure(self) -> None:
        super()._configure()
        acl = self.directory / "acl"
        text = acl.read_text()
        for line in ("user homeassistant", "topic read homeassistant/#", "topic write homeassistant/status"):
            assert text.count(f"#{line}\n") == 1, line
            text = text.replace(f"#{line}\n", f"{line}\n")
        acl.write_text(text)


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[ForHomeAssistant]:
    with ForHomeAssistant(tmp_path / "mosquitto", users=[USER]) as started:
        yield started


@pytest.fixture
def hass(tmp_path: Path, mosquitto: ForHomeAssistant) -> Iterator[HomeAssistant]:
    """Run a fresh Home Assistant, connected to mosquitto."""
    with HomeAssistant(tmp_path / "hass", mosquitto.port, USER, PASSWORD) as started:
        yield started
