"""Who imports whom: the shape of the house, held by a test (docs/design.md)."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mqtt_presence"
FILES = sorted(PACKAGE.rglob("*.py"))

ONE_IMPORTER = {
    "paho": ("link.py", "batch_client.py", "paho_setup.py", "client/", "check/peer.py"),
    "peewee": ("store/",),
    "playhouse": ("store/",),
    "psycopg": ("store/",),
    "sqlite3": ("store/",),
    "apscheduler": ("clock.py",),
    "amqtt": ("embedded/listeners.py",),
    "websockets": ("embedded/websocket.py", "simulation/websocket.py"),
    "typer": ("cli/", "__main__.py"),
    "rich": ("cli/",),
    "starlette": ("web/",),
    "uvicorn": ("web/",),
    "pydantic": ("settings.py",),
    "pydantic_settings": ("settings.py",),
    "cryptography": ("broker_setup/certificates.py",),
}
"""A library, and the only places that know it."""

VALUES = {"model", "errors"}
MAY_IMPORT = {
    "model.py": set(),
    "errors.py": set(),
    "times.py": {"errors"},
    "rules.py": {"model", "pulse"},
    "pulse.py": {"model"},
    "topics.py": VALUES,
    "payloads.py": VALUES | {"topics", "times"},
    "publications.py": VALUES | {"topics", "payloads"},
    "outbox.py": VALUES | {"publications"},
    "forgetting.py": {"link", "model", "store", "topics"},
    "set_forward.py": {"model", "store"},
    "broker_url.py": {"errors"},
    "counters.py": set(),
    "limits.py": set(),
    "addresses.py": set(),
    "gate.py": {"addresses", "limits"},
    "complaints.py": set(),
    "sources/__init__.py": VALUES,
    "sources/mosquitto.py": VALUES | {"sources", "topics"},
    "sources/json_events.py": VALUES | {"sources", "topics"},
    "witness.py": VALUES | {"link", "memory", "sources", "store"},
    "memory.py": {"store"},
    "mqtt_version.py": set(),
    "tls_files.py": {"errors"},
    "link.py": {
        "batch_client",
        "broker_url",
        "errors",
        "mqtt",
        "mqtt_version",
        "paho_setup",
        "tls_files",
        "topics",
    },
    "paho_setup.py": {"broker_url"},
    "batch_client.py": {"mqtt"},
    "access.py": {"topics"},
    "listening.py": {"addresses"},
    "mqtt/__init__.py": set(),
    "mqtt/fields.py": {"mqtt"},
    "mqtt/framing.py": set(),
    "mqtt/packets.py": {"mqtt"},
    "mqtt/return_codes.py": set(),
    "embedded/config.py": {"access", "addresses", "errors", "passwords", "topics"},
    "embedded/pipes.py": {"addresses"},
    "embedded/tree.py": set(),
    "embedded/messages.py": {"embedded", "complaints", "mqtt"},
    "embedded/connect.py": {"embedded", "complaints", "mqtt", "topics"},
    "embedded/sessions.py": {"embedded", "access", "mqtt"},
    "embedded/entrance.py": {"embedded", "complaints", "errors", "gate", "mqtt", "passwords"},
    "embedded/hub.py": {"embedded", "access", "complaints", "limits", "passwords", "payloads", "topics"},
    "embedded/connection.py": {
        "embedded",
        "access",
        "complaints",
        "errors",
        "mqtt",
        "payloads",
        "topics",
        "wire",
    },
    "embedded/websocket.py": {"embedded", "addresses", "complaints", "mqtt"},
    "embedded/listeners.py": {"embedded"},
    "embedded/broker.py": {"embedded", "complaints", "errors", "listening", "mqtt", "passwords", "topics"},
    "embedded/__init__.py": {"embedded", "passwords"},
    "web/access.py": {"web", "addresses"},
    "web/config.py": {"addresses", "errors"},
    "web/origins.py": {"addresses", "web"},
    "web/forwarded.py": {"web", "addresses"},
    "web/parameters.py": {"times", "topics"},
    "web/mqtt.py": {"web", "embedded"},
    "clock.py": {"bridge"},
    "broker_setup/plan.py": {"access", "errors", "topics"},
    "broker_setup/template.py": set(),
    "broker_setup/hashes.py": set(),
    "broker_setup/certificates.py": set(),
    "broker_setup/mosquitto.py": {"access", "addresses", "broker_setup", "broker_url", "errors"},
    "broker_setup/install.py": {"broker_setup", "errors"},
}
"""A module, and all of ours that it may import."""

EMBEDDED = (
    "config", "pipes", "tree", "messages", "connect", "sessions", "retained", "entrance", "hub",
    "connection", "websocket", "listeners", "broker", "__init__",
)  # fmt: skip
"""The embedded broker's modules: each may import those before it."""


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Yield the full names of what a file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Return which of our top-level modules a file imports."""
    found = {name.split(".")[1] for name in imports(path) if name.startswith("mqtt_presence.")}
    return {name for name in found if (PACKAGE / f"{name}.py").exists() or (PACKAGE / name).is_dir()}


def strings(path: Path) -> Iterator[str]:
    """Yield a file's string constants, but for its documentation."""
    tree = ast.parse(path.read_text())
    said = {
        id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.value


@pytest.mark.parametrize("library", ONE_IMPORTER)
def test_library_is_known_in_one_place(library: str) -> None:
    """Each library has one importer, so that it can be replaced there."""
    allowed = ONE_IMPORTER[library]
    wrong = [
        name_of(f)
        for f in FILES
        if any(i.split(".")[0] == library for i in imports(f)) and not name_of(f).startswith(allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_imports_point_inwards(module: str) -> None:
    """The inner modules know only what is further in; the rules nothing but values."""
    path = PACKAGE / module
    if not path.exists():
        assert module == "batch_client.py"
        return
    assert ours(path) <= MAY_IMPORT[module]


def test_embedded_broker_has_an_inside() -> None:
    """Packets know nothing of sessions, sessions nothing of connections: no module imports a later one."""
    assert {path.stem for path in (PACKAGE / "embedded").glob("*.py")} == set(EMBEDDED)
    for at, module in enumerate(EMBEDDED):
        found = imports(PACKAGE / "embedded" / f"{module}.py")
        inner = {name.split(".")[2] for name in found if name.startswith("mqtt_presence.embedded.")}
        assert inner <= set(EMBEDDED[:at]), module


def test_bridge_side_and_clients_do_not_know_each_other() -> None:
    """A client needs no bridge and no database, the bridge no client; commands and simulate are clients."""
    inner = {"bridge", "store", "link", "convergence", "outbox", "clock", "settings", "embedded", "rules"}
    for path in FILES:
        if name_of(path).startswith("client/"):
            assert not ours(path) & inner, name_of(path)
        elif not name_of(path).startswith(("cli/", "simulation/", "__main__")) and path.name != "__init__.py":
            assert "client" not in ours(path), name_of(path)


def test_rules_have_no_clock_no_io_no_log() -> None:
    """The rules are pure: what they import cannot tell the time, make an id or say anything."""
    for module in ("rules.py", "model.py"):
        assert {i.split(".")[0] for i in imports(PACKAGE / module)} <= {
            "collections", "typing", "enum", "msgspec", "mqtt_presence",
        }  # fmt: skip


def test_topics_are_spelled_in_one_module() -> None:
    """Nobody but `topics`, and the embedded broker's rights, knows what a topic looks like."""
    topic = re.compile(r"(?:^|/)(?:presence|status|events|reply|bridge)/")
    wrong = {name_of(f): [s for s in strings(f) if topic.search(s) and " " not in s] for f in FILES}
    allowed = {"topics.py", "access.py"}
    assert {f: s for f, s in wrong.items() if s and f not in allowed} == {}


def test_json_fields_are_spelled_in_one_module() -> None:
    """Nobody but `payloads`, and `wire` for the clients, knows the name of a JSON field."""
    fields = {
        "connectionId", "clientId", "userId", "userAgent", "ipAddr", "idleThreshold", "lastActivity", "lastLogin",
        "lastSeen", "loginTime", "logoutTime", "startedAt",
    }  # fmt: skip
    for path in FILES:
        if name_of(path) not in {"payloads.py", "wire.py"}:
            assert not {s for s in strings(path) if s in fields}, name_of(path)


def test_the_user_name_of_the_bridge_is_spelled_in_one_module() -> None:
    """Every module that sets up, runs or guards a broker takes the name from `access`."""
    spelled = re.compile(r'user\w*(?:: str)? = "bridge"', re.IGNORECASE)
    assert [name_of(f) for f in FILES if spelled.search(f.read_text())] == ["access.py"]


def test_refusals_are_put_into_words_in_one_module() -> None:
    """Bridge, clients, check and simulate name the same refusal alike."""
    wrong = [name_of(f) for f in FILES if any("user name or password" in text for text in strings(f))]
    assert wrong == ["mqtt/return_codes.py"]


def test_mqtt_lengths_are_decoded_in_one_module() -> None:
    """No other file of the repository takes seven bits of each byte (MQTT 3.1.1 §2.2.3)."""
    decodes = re.compile(r"& (?:0x7f|127)\b", re.IGNORECASE)
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in (PACKAGE, ROOT / "tests", ROOT / "benchmarks", ROOT / "examples")
        for path in sorted(folder.rglob("*.py"))
        if decodes.search(path.read_text()) and path != Path(__file__)
    ]
    assert found == ["mqtt_presence/mqtt/framing.py"]


def test_a_bridge_alone_needs_neither_broker_nor_web_server() -> None:
    """What `run` imports; and with a page still no broker."""
    for modules, without in (
        ("mqtt_presence.cli.run", {"amqtt", "starlette", "uvicorn"}),
        ("mqtt_presence.cli.run, mqtt_presence.web", {"amqtt"}),
    ):
        code = f"import sys, {modules}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "mqtt_presence.bridge" in done.stdout.split()
        assert not without & set(done.stdout.split())


def test_public_modules_are_typed() -> None:
    """The package says that it is typed (PEP 561)."""
    assert (PACKAGE / "py.typed").exists()
