"""What can be said of the shipped configurations without a broker: they are whole, and agree on the topics."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mqtt_presence.cli.init_broker import BY_HAND, KNOWN
from mqtt_presence.protocol.topics import VERBS

SHIPPED = Path(__file__).parents[2] / "broker_config"
DIRECTORIES = sorted(path.name for path in SHIPPED.iterdir() if path.is_dir() and path.name != "systemd")


def test_every_broker_is_known() -> None:
    """init-broker tells of each, the README links each, and each has one of its own."""
    assert set(DIRECTORIES) == {*KNOWN, *BY_HAND, "embedded"}
    readme = (SHIPPED / "README.md").read_text()
    for name in DIRECTORIES:
        assert f"]({name}/README.md)" in readme
        assert (SHIPPED / name / "README.md").exists()


@pytest.mark.parametrize("name", sorted({*KNOWN, *BY_HAND}))
def test_rights_name_each_verb(name: str) -> None:
    """A verb that is missing in the rights is one that no client can say."""
    text = "".join(path.read_text() for path in (SHIPPED / name).iterdir() if path.suffix != ".md")
    for word in (*VERBS, "status", "events", "bridge", "reply", "operator"):
        assert word in text, f"{name} lacks {word}"


@pytest.mark.parametrize("name", ["emqx", "hivemq"])
def test_what_was_not_run_says_so(name: str) -> None:
    """In each file, not in the README alone."""
    for path in (SHIPPED / name).iterdir():
        assert "NOT RUN HERE" in path.read_text().upper(), path.name


def test_rights_of_hivemq() -> None:
    """Its file is well-formed, and holds what the table of rights says, topic by topic."""
    ET.parse(SHIPPED / "hivemq/config.xml")
    root = ET.parse(SHIPPED / "hivemq/credentials.xml").getroot()
    rights = {
        role.findtext("id"): {
            (permission.findtext("topic"), permission.findtext("activity"))
            for permission in role.iter("permission")
        }
        for role in root.iter("role")
    }
    own = "presence/${{username}}/${{clientid}}/"
    assert rights["client"] == {
        *((own + verb, "PUBLISH") for verb in VERBS),
        ("status/#", "SUBSCRIBE"),
        ("bridge/#", "SUBSCRIBE"),
        ("reply/${{username}}/${{clientid}}/+", "SUBSCRIBE"),
    }
    assert rights["operator"] == {("events/+/+", "SUBSCRIBE")}
    assert ("presence/+/+/+", "SUBSCRIBE") in rights["bridge"]
