"""`mqtt-presence notify`, and the recipes of docs/notifications.md, beside a bridge as operators run it."""

import base64
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mqtt_presence.cli.app import app
from mqtt_presence.integrations.notifications.conditions import ConditionKind
from mqtt_presence.integrations.notifications.receivers import _KEYS, EVENTS, read_receivers
from mqtt_presence.settings import load
from tests.support.bridges import BridgeProcess
from tests.support.brokers import Mosquitto
from tests.support.playing import hello
from tests.support.receiver import Answer, WebhookReceiver
from tests.support.waiting import free_port, listens, until

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/notifications.md").read_text("utf-8")
SETTINGS = re.findall(r"<!-- (settings[^>]*) -->\n```toml\n(.*?)\n```", PAGE, re.DOTALL)


def block(mark: str) -> str:
    (found,) = re.findall(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)\n```", PAGE, re.DOTALL)
    return f"{found}\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "settings.toml"


def notify(config: Path, database: str, *words: str) -> tuple[int, str, str]:
    """Run the command; return exit code, output and errors."""
    run = CliRunner().invoke(app, ["notify", *words, f"--config={config}", f"--database={database}"])
    return run.exit_code, run.stdout, run.stderr


def row(output: str) -> list[str]:
    return output.splitlines()[1].split()


def test_list_test_and_replay(mosquitto: Mosquitto, sqlite_url: str, config: Path, tmp_path: Path) -> None:
    """The command shows a receiver that fails, tests it, and has everything sent again beside the running bridge."""
    with WebhookReceiver() as receiver:
        config.write_text(
            "notify_private = true\n"
            f'[[notify]]\nname = "ops"\nurl = "{receiver.url}"\nusers = "al*"\non = ["userOnline", "userOffline"]\n'
        )
        with BridgeProcess(
            tmp_path / "log", broker=mosquitto.url, database=sqlite_url, config=str(config)
        ) as bridge:
            hello(mosquitto)
            mosquitto.say("alice", "phone", "login")
            until(lambda: len(receiver.taken) == 1, "the event")
            until(
                lambda: row(notify(config, sqlite_url, "list")[1])[2:] == ["0", "1", "0", "0", "ok"],
                "counted",
            )

            assert notify(config, sqlite_url, "test", "ops") == (0, "ops: delivered (HTTP 204)\n", "")
            assert receiver.told()[1] == ("al*", "test")
            receiver.answer = lambda _: Answer(500)
            code, output, error = notify(config, sqlite_url, "test", "ops")
            assert (code, output) == (1, "")
            assert "ops: the test failed: HTTP 500" in error

            mosquitto.say("alice", "phone", "logout")
            until(
                lambda: "failing (HTTP 500), 1 attempts" in notify(config, sqlite_url, "list")[1], "it fails"
            )
            assert row(notify(config, sqlite_url, "list")[1])[2] == "1"
            assert notify(config, sqlite_url, "failed", "ops")[1] == "ops: no notification was given up.\n"
            receiver.answer = lambda _: Answer()
            before = receiver.taken[0]["id"]
            code, output, _ = notify(config, sqlite_url, "replay", "ops", "--since", "1h")
            assert code == 0
            assert output.startswith("ops: everything since ")
            until(lambda: len(receiver.taken) == 4, "the replay")
            assert receiver.told(repeats=True)[2:] == [("alice", "userOnline"), ("alice", "userOffline")]
            assert receiver.taken[2]["id"] == before
            assert bridge.stop() == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lists"], "there are list, test NAME"),
        (["test"], "there are list, test NAME"),
        (["test", "nobody"], "there is no such [[notify]]"),
        (["replay", "ops"], "--since: replay needs it"),
        (["list", "--since", "1h"], "only replay"),
        (["replay", "ops", "--since", "yesterday"], "must be a duration"),
    ],
)
def test_wrong_arguments(words: list[str], message: str, sqlite_url: str, config: Path) -> None:
    """One line, and exit code 2."""
    config.write_text('[[notify]]\nname = "ops"\nurl = "https://example.net/"\non = ["userOnline"]\n')
    code, output, error = notify(config, sqlite_url, *words)
    assert (code, output) == (2, "")
    assert message in error
    assert len(error.splitlines()) == 1


# The page.


@pytest.mark.parametrize(("mark", "text"), SETTINGS, ids=[mark for mark, _ in SETTINGS])
def test_settings_of_the_page(mark: str, text: str, config: Path, tmp_path: Path) -> None:
    """Each settings file of the page is accepted."""
    secret = tmp_path / "ops.secret"
    secret.write_text(f"whsec_{base64.b64encode(bytes(32)).decode()}\n")
    config.write_text(text.replace('"ops.secret"', f'"{secret}"'))
    assert read_receivers(load({}, config).notify), mark


def test_the_page_names_every_key_event_and_alarm() -> None:
    """The tables of the page are complete."""
    for key in _KEYS:
        assert f"| `{key}` |" in PAGE
    for kind in ConditionKind:
        assert re.search(rf"^\| `{kind}\b", PAGE, re.MULTILINE)
    protocol = (ROOT / "docs/protocol.md").read_text("utf-8")
    assert all(f"`{event}`" in protocol for event in EVENTS)


def test_receiver_in_python(mosquitto: Mosquitto, sqlite_url: str, config: Path, tmp_path: Path) -> None:
    """The receiver of the page prints what happens, takes our signature, and refuses another one."""
    port, secret, script = free_port(), tmp_path / "ops.secret", tmp_path / "receiver.py"
    secret.write_text(f"whsec_{base64.b64encode(os.urandom(32)).decode()}\n")
    script.write_text(block("file: receiver.py"))
    settings = block("settings: receiver.py").replace("8000", str(port)).replace("ops.secret", str(secret))
    config.write_text(settings)
    with (tmp_path / "printed").open("w+") as printed:
        receiver = subprocess.Popen([sys.executable, str(script), str(secret), str(port)], stdout=printed)
        try:
            until(lambda: listens(port), "the receiver listens")
            with BridgeProcess(
                tmp_path / "log", broker=mosquitto.url, database=sqlite_url, config=str(config)
            ) as bridge:
                hello(mosquitto)
                mosquitto.say("alice", "phone", "login")
                mosquitto.say("alice", "phone", "logout")

                def lines() -> list[str]:
                    text = (tmp_path / "printed").read_text()
                    return [line for line in text.splitlines() if line.startswith("alice ")]

                until(lambda: len(lines()) == 2, "both are printed")
                assert [line.split()[1] for line in lines()] == [
                    "mqttpresence.userOnline.v1",
                    "mqttpresence.userOffline.v1",
                ]
                secret.write_text(f"whsec_{base64.b64encode(os.urandom(32)).decode()}\n")
                mosquitto.say("alice", "phone", "login")
                bridge.wait_for_log("attempt 1 failed: HTTP 401")
                assert len(lines()) == 2
        finally:
            receiver.terminate()
            receiver.wait(10)


def test_the_page_counts_the_lines_of_the_receiver() -> None:
    """It is a receiver of about twenty lines."""
    assert len([line for line in block("file: receiver.py").splitlines() if line.strip()]) <= 22


def test_node_red_flow_is_whole() -> None:
    """The flow can be imported: ids are unique, wires lead to nodes, and the address is the one of the settings."""
    flow = json.loads((ROOT / "docs/node-red-flow.json").read_text("utf-8"))
    ids = [node["id"] for node in flow]
    assert len(set(ids)) == len(ids)
    (tab,) = (node for node in flow if node["type"] == "tab")
    for node in flow:
        assert node is tab or node["z"] == tab["id"]
        assert {target for wire in node.get("wires", []) for target in wire} <= set(ids)
    (entry,) = (node for node in flow if node["type"] == "http in")
    (receiver,) = read_receivers(tomllib.loads(block("settings: node-red"))["notify"])
    assert receiver.url.endswith(f":1880{entry['url']}")
    assert entry["method"] == "post"
