"""The documents agree with the code: settings, topics and fields are named, links have targets."""

import ast
import re
from pathlib import Path

import msgspec
import pytest

from mqtt_presence.cli.app import COMMANDS
from mqtt_presence.protocol import client_messages, incoming, outgoing, sizes
from mqtt_presence.protocol.topics import TIME, VERBS, Topics
from mqtt_presence.rules import status
from mqtt_presence.rules.model import Reason, State
from mqtt_presence.settings import SETTINGS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SETTINGS_PAGE = (ROOT / "docs/settings.md").read_text("utf-8")
PROTOCOL = (ROOT / "docs/protocol.md").read_text("utf-8")
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(p for p in (ROOT / "broker_config").rglob("*.md") if "node_modules" not in p.parts),
]


def wire_fields() -> list[str]:
    """Return every JSON field of the payload structs."""
    structs = [
        value
        for value in (vars(incoming) | vars(outgoing)).values()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__name__.endswith(("In", "Out"))
    ]
    assert len(structs) >= 7
    names = {field.encode_name for struct in structs for field in msgspec.structs.fields(struct)}
    return sorted(names | {"t0", "t1", "t2"})


def topics() -> list[str]:
    names = Topics()
    inputs = [names.input("<user>", "<client>", verb) for verb in sorted(VERBS)]
    return [
        *inputs,
        names.reply("<user>", "<client>", TIME),
        names.status("<user>"),
        names.event("<user>", "<event>"),
        names.bridge_state,
        names.bridge_announce,
        names.bridge_health,
    ]


# Settings, commands, topics, fields.


def test_the_page_of_the_examples_is_as_long_as_is_said() -> None:
    """The README and docs/browser.md give the number of lines of the example page."""
    lines = (ROOT / "examples/browser/index.html").read_text("utf-8").splitlines()
    for text in (README, (ROOT / "docs/browser.md").read_text("utf-8")):
        assert re.findall(r"\b(\d+) lines\b", text) == [str(len(lines))]


def rows_of_settings(text: str) -> list[list[str]]:
    """Return the cells of the tables of settings: names, defaults, meaning."""
    tables = re.findall(r"^\| setting \| default \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")[1:4]] for row in "".join(tables).splitlines()]


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_is_documented(name: str) -> None:
    """Each setting has one row in docs/settings.md, with its default."""
    rows = [row for row in rows_of_settings(SETTINGS_PAGE) if f"`{name}`" in row[0]]
    assert len(rows) == 1, f"docs/settings.md has {len(rows)} rows for {name}"
    default = SETTINGS[name].default
    if name != "database":  # its default depends on the user's home directory
        assert re.search(rf"\b{re.escape(default)}\b", rows[0][1]) if default else True, rows[0]


def test_documented_settings_exist() -> None:
    """No row is left over from a setting that has gone, or was misspelt."""
    for names, _, _ in rows_of_settings(SETTINGS_PAGE):
        assert set(re.findall(r"`(\w+)`", names)) <= set(SETTINGS), names


def test_ten_settings_of_the_readme_are_those_of_the_page() -> None:
    """The README has ten settings; names, defaults and meanings are those of docs/settings.md."""
    shown = rows_of_settings(README.replace("](docs/settings.md#", "](#").replace("](docs/", "]("))
    assert len(shown) == 10
    for row in shown:
        assert row in rows_of_settings(SETTINGS_PAGE), row


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_in_the_readme(name: str) -> None:
    """Each command has a row in the README's table."""
    assert f"| `mqtt-presence {name}` |" in README


@pytest.mark.parametrize("topic", topics())
def test_topic_is_documented(topic: str) -> None:
    """Each topic is in both tables of topics."""
    assert f"| `{topic}` |" in README
    assert f"| `{topic}` |" in PROTOCOL


@pytest.mark.parametrize("name", wire_fields())
def test_field_is_documented(name: str) -> None:
    """Each field of each payload is named in the protocol."""
    assert f"`{name}`" in PROTOCOL


def test_fields_of_the_api_are_documented() -> None:
    """The fields of a connection in the page's API are listed completely."""
    text = (ROOT / "docs/api.md").read_text("utf-8")
    listed = re.search(r"A connection has (.*?) \(\[protocol\]", text, re.DOTALL)
    assert listed is not None
    sent = {field.encode_name for field in msgspec.structs.fields(outgoing.ConnectionOut)}
    assert set(re.findall(r"`(\w+)`", listed[1])) == sent


def test_events_reasons_and_states_are_documented() -> None:
    """The protocol names each event, reason and state."""
    events = {name for names in status.STATE_EVENTS.values() for name in names}
    events |= {"connectionLogin", "connectionLogout", "connectionIdle", "connectionActive"}
    for word in (*events, *Reason, *State):
        assert f"`{word}`" in PROTOCOL, word


def test_limits_are_documented() -> None:
    """The limits in the protocol are those of the code."""
    assert sizes.MAX_PAYLOAD == 8 * 1024
    assert "at most 8 KiB" in PROTOCOL
    assert sizes.MAX_META == 2 * 1024
    assert "at most 2 KiB as JSON" in PROTOCOL
    assert f"at most {sizes.MAX_T0} bytes" in PROTOCOL
    assert f"1\N{EN DASH}{sizes.MAX_CONNECTION_ID} characters" in PROTOCOL
    assert f"({sizes.MAX_DURATION_S:.0f})" in PROTOCOL


def test_json_examples_are_what_clients_read() -> None:
    """The Python client reads the statuses and states of the examples."""
    shown = re.findall(r"```json\n(.*?)\n```", PROTOCOL, re.DOTALL)
    assert len(shown) == 4
    for text in shown:
        if "behindMs" in text:
            health = msgspec.json.decode(text, type=outgoing.HealthOut)
            assert outgoing.encode_health(health).decode() == text
        elif "userId" in text:
            assert client_messages.decode_status("alice", text.encode()).user_id == "alice"
        else:
            assert client_messages.decode_bridge_state(text.encode()).state == "online"


# Rules.

RULES = re.findall(r'<a id="rule-(\w+)"></a>(\w+) \|', PROTOCOL)


def test_rules_are_defined_once_under_their_own_anchors() -> None:
    """A rule's link is its id in small letters."""
    assert [anchor.upper() for anchor, _ in RULES] == [rule for _, rule in RULES]
    assert len(RULES) == len(set(RULES))
    for letter, count in {"L": 4, "A": 3, "E": 2, "G": 2, "B": 3, "S": 3, "I": 2}.items():
        assert [rule for _, rule in RULES if rule[0] == letter] == [f"{letter}{n + 1}" for n in range(count)]


@pytest.mark.parametrize("where", ["mermaid", "table"])
def test_rules_are_in_the_picture(where: str) -> None:
    """Each rule for messages, reports and deadlines is on an arrow, in the drawing and in the table beside it."""
    section = re.search(r"### States of a connection\n.*?```mermaid\n(.*?)```(.*?)\n###", PROTOCOL, re.DOTALL)
    assert section is not None
    shown = set(re.findall(r"\b[LAEGBSI]\d\b", section[1 if where == "mermaid" else 2]))
    assert shown == {rule for _, rule in RULES if rule[0] != "D"}


def test_rules_that_the_code_names_are_defined() -> None:
    """`rule B3` in a docstring or a comment leads to a rule of the protocol."""
    known = {rule for _, rule in RULES}
    for path in [*(ROOT / "mqtt_presence").rglob("*.py"), *DOCUMENTS]:
        for named in re.findall(
            r"\brules? ([A-Z]\d+(?:(?:, | and | or )[A-Z]\d+)*)", path.read_text("utf-8")
        ):
            assert set(re.findall(r"[A-Z]\d+", named)) <= known, (path, named)


def test_rules_are_named_by_their_ids() -> None:
    """There is one source of rules, docs/protocol.md: no text refers to another one, or to its old sections."""
    for path in [*(ROOT / "mqtt_presence").rglob("*.py"), *DOCUMENTS]:
        found = re.findall(r"contract (?:section )?[A-Z]?\d", path.read_text("utf-8"))
        assert not found, (path.relative_to(ROOT).as_posix(), found)


def messages_of_the_package() -> str:
    """Return the text of every string in the package, with an ellipsis for each inserted value."""
    texts = []
    for path in (ROOT / "mqtt_presence").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[\d.]*[a-z]", "…", node.value))
    return "\n".join(texts)


def test_log_lines_of_the_manual_are_those_of_the_code() -> None:
    """A line in the manual's table of log lines can be found in a log."""
    operations = (ROOT / "docs/operations.md").read_text("utf-8")
    table = operations.split("## The log")[1].split("## Limits")[0]
    lines = [
        line
        for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for line in re.findall(r"`([^`]+)`", cell)
    ]
    assert len(lines) > 20
    written = messages_of_the_package()
    for line in lines:
        for part in line.split("…"):
            known = part.strip() in written or part.startswith("refused reason=")
            assert known, f"no message has {part.strip()!r}"


def test_sections_that_the_code_names_exist() -> None:
    """A reference such as docs/protocol.md, "Topics" leads to a heading, one with # to an anchor."""
    sources = [*(ROOT / "mqtt_presence").rglob("*.py"), *(ROOT / "mqtt_presence/web/static").rglob("*.js")]
    for path in sources:
        text = path.read_text("utf-8")
        for document, heading in re.findall(r'(docs/\w+\.md), "([^"]+)"', text):
            found = re.search(
                rf"^#+ {re.escape(heading)}$", (ROOT / document).read_text("utf-8"), re.MULTILINE
            )
            assert found, f"{path.name} names {heading} in {document}"
        for document, anchor in re.findall(r"(docs/\w+\.md)#([\w-]+)", text):
            assert anchor in anchors(ROOT / document), f"{path.name} names {document}#{anchor}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_that_a_document_names_are_there(path: Path) -> None:
    """A Python file in backquotes exists: with a folder in that place, without one anywhere."""
    examples = {"adapters/devices/weather_stations.py", "integrations/door_display.py"}
    names = {file.name for file in ROOT.rglob("*.py") if not {"node_modules", ".venv"} & set(file.parts)}
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    for name in re.findall(r"`([\w/]+\.py)\b", text):
        found = (ROOT / name).exists() or (ROOT / "mqtt_presence" / name).exists() or name in names
        assert found or name.removeprefix("mqtt_presence/") in examples, f"{path.name} names {name}"


# Links.


def anchors(path: Path) -> set[str]:
    """Return the anchors of a document: those of its headings, and explicit ones."""
    text = re.sub(r"^```.*?^```", "", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    named = set(re.findall(r'<a id="([\w-]+)"></a>', text))
    return named | {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path: Path) -> None:
    """A link within the repository names an existing file, and an anchor in it."""
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{path.name} links to {target}"
