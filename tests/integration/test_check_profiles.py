"""`mqtt-presence check --profiles` on real brokers: who may write the topics of devices."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mqtt_presence.adapters.devices.profile_files import shipped_names
from mqtt_presence.cli.app import app
from tests.support.brokers import BRIDGE_PASSWORD, Embedded, Mosquitto
from tests.support.house import House

PASSWORD = "secret"
USERS = {"bridge": BRIDGE_PASSWORD} | dict.fromkeys(("alice", "lamp", "devices"), PASSWORD)
ACL = """
user bridge
topic readwrite presence/#
topic readwrite bridge/#
topic read tele/#
topic read +/status
user devices
topic write tele/#
user alice
topic write presence/alice/#
topic write wled/#
pattern write tele/%u/#
"""


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A mosquitto with an account for each device, and one that a fleet shares."""
    directory = tmp_path_factory.mktemp("strict")
    (directory / "acl").write_text(ACL)
    with Mosquitto(directory / "mosquitto", f"acl_file {directory / 'acl'}", USERS) as broker:
        yield broker


def check(broker: Mosquitto | Embedded, user: str, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run the command; return its exit code, the findings by profile, and its errors."""
    client = f"mqtt://{user}:{PASSWORD}@127.0.0.1:{broker.port}"
    given = ["check", "--broker", broker.url, "--client", client, "--json", *arguments]
    run = CliRunner().invoke(app, given)
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    found = {f["check"].removeprefix("profile-"): f for f in map(json.loads, run.stdout.splitlines())}
    return run.exit_code, found, run.stderr


def tasmota(broker: Mosquitto, user: str, *more: str) -> dict[str, Any]:
    _, found, errors = check(broker, user, "--only=profiles", "--profiles", "tasmota", *more)
    assert not errors
    return found["tasmota"]


def test_an_account_for_each_device(strict: Mosquitto) -> None:
    """The device's account writes the topics with its name alone."""
    found = tasmota(strict, "lamp")
    assert (found["verdict"], found["evidence"]) == (
        "pass", "lamp may write tele/lamp/LWT, and no other device's topic",
    )  # fmt: skip


def test_a_shared_account(strict: Mosquitto) -> None:
    """It speaks for each device; the finding says so, what follows, and the line that helps."""
    found = tasmota(strict, "devices")
    assert found["verdict"] == "warn"
    assert "devices may write tele/check-" in found["evidence"]
    assert "every device of this fleet" in found["consequence"]
    assert "pattern write tele/%u/#" in found["remedy"]
    second = f"mqtt://devices:{PASSWORD}@127.0.0.1:{strict.port}"
    assert "devices may write tele/check-" in tasmota(strict, "lamp", "--second-client", second)["evidence"]


def test_rights_that_the_bridge_lacks(strict: Mosquitto) -> None:
    """The broker grants every subscription: only a message that does not arrive shows a missing right to read."""
    code, found, _ = check(
        strict, "alice", "--only=profiles", "--profiles", "wled", "frigate", "mosquitto_bridge"
    )
    assert code == 0
    assert found["wled"]["verdict"] == "warn"
    assert "not delivered to the bridge's user" in found["wled"]["evidence"]
    assert found["frigate"]["verdict"] == "pass"
    assert "alice may write no topic of this fleet" in found["frigate"]["evidence"]
    assert found["mosquitto_bridge"]["evidence"] == "only the broker itself writes these topics"


def test_without_rights_every_profile_is_open_and_no_bridge_notices(tmp_path: Path, sqlite_url: str) -> None:
    """Without an ACL everybody speaks for everything. A bridge that follows the fleets records nothing of it."""
    profiles = [name for name in shipped_names() if name != "espurna"]
    with Mosquitto(tmp_path / "mosquitto") as broker:
        house = House(broker, sqlite_url)
        with house.bridge(*profiles) as bridge:
            code, found, _ = check(broker, "alice", "--only=profiles", "--profiles")
            house.mark("later")
            assert list(house.users()) == ["later"]
            assert set(bridge.parts.counters.refused) == {"no_match"}
    assert code == 0
    del found["broker"]
    assert list(found) == list(shipped_names())
    assert {finding["verdict"] for finding in found.values()} == {"warn"}


def test_profiles_of_the_settings(strict: Mosquitto, tmp_path: Path) -> None:
    """Those of the file are tested; a profile with heartbeats alone is left alone, since each would count."""
    (tmp_path / "presence.toml").write_text(
        'profiles = ["tasmota"]\n'
        '[profile.pumps]\navailability = [{ topic = "tele/{device}/alive", there = ["1"] }]\n'
        '[profile.beats]\nheartbeat = ["beats/{device}"]\n'
    )
    _, found, _ = check(strict, "lamp", "--config", str(tmp_path / "presence.toml"), "--only=profiles")
    assert list(found) == ["broker", "tasmota", "pumps", "beats"]
    assert found["pumps"]["evidence"] == "lamp may write tele/lamp/alive, and no other device's topic"
    assert found["beats"]["verdict"] == "note"


def test_embedded_broker_with_profiles() -> None:
    """Every user may write the devices' topics there; without the setting, the bridge may not even subscribe."""
    with Embedded() as broker:
        code, found, _ = check(broker, "alice", "--only=profiles", "--profiles", "tasmota")
        assert (code, found["tasmota"]["verdict"]) == (1, "fail")
        assert "the bridge's user may not subscribe to tele/+/LWT" in found["tasmota"]["evidence"]


def test_wrong_names(strict: Mosquitto) -> None:
    """A profile that does not exist, and a name without the flag."""
    assert check(strict, "lamp", "--profiles", "tasmotta")[0] == 2
    assert check(strict, "lamp", "tasmota")[0] == 2
