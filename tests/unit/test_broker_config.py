"""The shipped configurations are complete and agree on the topics, as far as no broker is needed."""

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from mqtt_presence.cli.init_broker import BY_HAND, KNOWN
from mqtt_presence.protocol.topics import VERBS

SHIPPED = Path(__file__).parents[2] / "broker_config"
OTHERS = {"containers", "grafana", "prometheus", "systemd"}
"""Folders about the bridge instead of a broker."""
PAGES = {"bifromq", "vernemq"}
"""Brokers known by their documents only: a page without files."""
DIRECTORIES = sorted({path.name for path in SHIPPED.iterdir() if path.is_dir()} - OTHERS - PAGES)


def test_every_broker_is_known() -> None:
    """init-broker names each broker, the README links each, and each has a README and a check.toml."""
    assert set(DIRECTORIES) == {*KNOWN, *BY_HAND, "embedded"}
    readme = (SHIPPED / "README.md").read_text()
    for name in DIRECTORIES:
        assert f"]({name}/README.md)" in readme
        assert (SHIPPED / name / "README.md").exists()
        assert (SHIPPED / name / "check.toml").exists()


@pytest.mark.parametrize("name", sorted({*PAGES, "emqx", "hivemq"}))
def test_broker_known_by_documents_only_is_marked(name: str) -> None:
    """Its page shows that it was not run here, and names its sources."""
    page = (SHIPPED / name / "README.md").read_text()
    assert "**not run here**" in page
    assert len(re.findall(r"\]\(https://", page)) >= 3
    assert f"]({name}/README.md)" in (SHIPPED / "README.md").read_text()


@pytest.mark.parametrize("name", [*sorted({*KNOWN, *BY_HAND}), "nats/cluster"])
def test_rights_name_each_verb(name: str) -> None:
    """A client cannot use a verb that the rights lack."""
    text = "".join(
        path.read_text()
        for path in (SHIPPED / name).iterdir()
        if path.is_file() and not path.match("*.md") and path.name != "check.toml"
    )
    for word in (*VERBS, "status", "events", "bridge", "reply", "operator", "homeassistant"):
        assert word in text, f"{name} lacks {word}"


@pytest.mark.parametrize("name", ["emqx", "hivemq"])
def test_untested_files_carry_a_warning(name: str) -> None:
    """The warning is in each file, not only in the README."""
    for path in (SHIPPED / name).iterdir():
        assert "NOT RUN HERE" in path.read_text().upper(), path.name


def test_rights_of_hivemq() -> None:
    """Its file is well-formed and grants the rights of the table, topic by topic."""
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


def test_wheel_includes_the_data_of_check() -> None:
    """The build names each check.toml, since it has no wildcards; mosquitto's folder is included whole."""
    wheel = tomllib.loads((SHIPPED.parent / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]["wheel"]
    included = {name for name in wheel["force-include"] if name.startswith("broker_config/")}
    data = {f"broker_config/{name}/check.toml" for name in DIRECTORIES if name != "mosquitto"}
    assert included == data | {"broker_config/generic.toml", "broker_config/mosquitto"}
    assert all(wheel["force-include"][name] == f"mqtt_presence/{name}" for name in included)
