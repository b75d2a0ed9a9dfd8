"""The documents say what is there: settings, topics, fields, commands, links; and what they show is run."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from mqtt_presence import payloads, topics
from mqtt_presence.cli.app import _COMMANDS
from mqtt_presence.embedded import EmbeddedBroker, EmbeddedConfig
from mqtt_presence.settings import Settings, load
from tests.support.bridges import BridgeThread

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "broker_config").rglob("*.md")]


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_in_the_readme(name):
    """Whoever looks for a setting finds it in the README's table."""
    assert f"`{name}`" in README


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_is_in_the_readme(name):
    """Every command is named."""
    assert f"`{name}`" in README


@pytest.mark.parametrize(
    "topic",
    [
        *(topics.Topics().input("<user>", "<client>", verb) for verb in sorted(topics.VERBS)),
        topics.Topics().status("<user>"),
        topics.Topics().event("<user>", "<event>"),
        topics.Topics().reply("<user>", "<client>"),
        topics.Topics().bridge_state,
        topics.Topics().bridge_announce,
    ],
)
def test_every_topic_is_in_the_protocol(topic):
    """The protocol names every topic the program knows."""
    assert f"`{topic}`" in PROTOCOL


STRUCTS = [s for s in vars(payloads).values() if isinstance(s, type) and issubclass(s, msgspec.Struct)]
FIELDS = sorted(
    {
        field.encode_name
        for struct in STRUCTS
        if struct.__name__.endswith(("In", "Out"))
        for field in msgspec.structs.fields(struct)
    }
)


@pytest.mark.parametrize("name", FIELDS)
def test_every_payload_field_is_in_the_protocol(name):
    """The protocol names every JSON field that is read or written."""
    assert f"`{name}`" in PROTOCOL


@pytest.mark.parametrize(
    "column", ["user_id", "client_id", "connection_id", "login_time", "logout_time", "meta"]
)
def test_every_public_column_is_in_the_protocol(column):
    """The protocol names the columns that SQL may rely on."""
    assert f"`{column}`" in PROTOCOL


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    """Every relative link of every page leads to a file, and every anchor to a heading."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = (page.parent / path).resolve() if path else page
        assert to.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", to.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in slugs, target


def test_configuration_in_the_docs_is_one(tmp_path):
    """The TOML that the pages show is read without complaint."""
    blocks = [b for page in PAGES for b in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]
    assert blocks
    for number, block in enumerate(blocks):
        tomllib.loads(block)
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        load({}, path)


def test_python_of_the_readme_runs(tmp_path, capsys):
    """The README's Python does what it says, against a broker and a bridge."""
    block = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert block is not None
    database = f"sqlite:///{tmp_path / 'presence.db'}"
    with EmbeddedBroker(EmbeddedConfig(port=0, bridge_password="secret")) as broker:
        url = f"mqtt://bridge:secret@127.0.0.1:{broker.port}"
        with BridgeThread(broker=url, database=database):
            code = block[1].replace("127.0.0.1:1883", f"127.0.0.1:{broker.port}")
            exec(compile(code, "README.md", "exec"), {})
    assert "alice online 1" in capsys.readouterr().out
