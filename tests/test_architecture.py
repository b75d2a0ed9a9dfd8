"""Who imports whom: the map of the rooms, held by tests (CONTRIBUTING.md shows it as a picture)."""

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

FLOORS = (
    {"__main__"},
    {"cli"},
    {"tools", "web"},
    {"bridge", "settings", "aio"},
    {"embedded", "client"},
    {"integrations", "store", "adapters", "access"},
    {"protocol"},
    {"mqtt", "rules"},
    {"errors"},
)
"""The rooms, from the top down. A room imports lower floors only, and itself."""

NOT_ALLOWED = {
    "settings": {"bridge", "embedded", "client", "store", "adapters", "integrations"},
    "client": {"bridge", "store", "settings", "embedded", "access", "adapters", "integrations"},
    "bridge": {"client", "embedded", "settings", "web", "tools"},
    "embedded": {"client", "store", "adapters", "integrations"},
    "mqtt": {"rules"},
}
"""Rooms on a lower floor that a room does without all the same."""

MAX_ENTRIES = 19  # with the three files that Python prescribes, and two public names: aio, errors

ONE_IMPORTER = {
    "paho": ("bridge/link/", "mqtt/paho_client.py", "client/", "tools/check/probe_client.py"),
    "peewee": ("store/",),
    "playhouse": ("store/",),
    "psycopg": ("store/",),
    "sqlite3": ("store/",),
    "apscheduler": ("bridge/schedule.py",),
    "amqtt": ("embedded/listeners.py",),
    "websockets": ("embedded/websocket.py", "mqtt/websocket_client.py"),
    "typer": ("cli/", "__main__.py"),
    "rich": ("cli/",),
    "textual": ("cli/watch_screen.py",),
    "fastapi": ("web/api/",),
    "starlette": ("web/",),
    "uvicorn": ("web/",),
    "prometheus_client": ("web/exposition.py",),
    "pydantic": ("settings/", "web/api/"),
    "pydantic_settings": ("settings/",),
    "google": ("adapters/devices/sparkplug.py",),
    "urllib3": ("integrations/notifications/webhook.py",),
    "apprise": ("integrations/notifications/apprise_sender.py",),
    "cryptography": ("tools/init_broker/certificates.py",),
}
"""A library, and the only places that know it."""


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


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


ROOMS = sorted({room for rooms in FLOORS for room in rooms})


def rooms_of_files() -> dict[Path, str]:
    return {path: path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_downwards(room: str) -> None:
    """A room knows the floors below it, and not those beside or above."""
    for path, its in rooms_of_files().items():
        if its != room:
            continue
        for other in ours(path) - {room}:
            assert floor_of(other) > floor_of(room), f"{name_of(path)} imports {other}"
            assert other not in NOT_ALLOWED.get(room, set()), f"{name_of(path)} imports {other}"


def test_every_file_has_a_room() -> None:
    """A new room is put on a floor here, and on the map in CONTRIBUTING.md."""
    assert set(rooms_of_files().values()) - {"__init__"} == set(ROOMS)
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len(entries) <= MAX_ENTRIES


@pytest.mark.parametrize(
    "room",
    sorted(path.parent for path in PACKAGE.rglob("__init__.py")),
    ids=lambda room: room.relative_to(PACKAGE.parent).as_posix(),
)
def test_each_folder_says_what_it_holds(room: Path) -> None:
    """The first sentence of a folder is its contents; below the top, it also names what it may import."""
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert text
    assert "." in text


def test_no_module_has_the_name_of_another() -> None:
    """A file is found by its name alone, but for the names that each folder has."""
    seen: dict[str, str] = {}
    for path in FILES:
        if path.stem in {"__init__", "__main__", "config", "port"} or "migrations" in path.parts:
            continue
        assert path.stem not in seen, f"{name_of(path)} and {seen[path.stem]}"
        seen[path.stem] = name_of(path)


def test_no_class_has_the_name_of_another() -> None:
    """A class is found by its name alone.

    Exceptions: a migration has the tables of its version, and the clients for asyncio have the names of the others.
    """
    seen: dict[str, str] = {}
    for path in FILES:
        if "migrations" in path.parts or path.name == "asyncio_clients.py":
            continue
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                assert node.name not in seen, f"{node.name} in {name_of(path)} and {seen[node.name]}"
                seen[node.name] = name_of(path)


def test_no_circle_between_modules() -> None:
    """Each module can be understood after those that it imports."""
    modules = {"mqtt_presence." + name_of(path)[:-3].replace("/", "."): path for path in FILES}
    graph = {name: {i for i in imports(path) if i in modules} - {name} for name, path in modules.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join((*way, name))}"
        if name not in done:
            for other in graph[name]:
                visit(other, (*way, name))
            done.add(name)

    for name in modules:
        visit(name, ())


def test_users_imports_neither_bridge_nor_paho() -> None:
    """A command that reads the database starts without the machinery that writes it."""
    code = "import sys, mqtt_presence.cli.users; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {m for m in loaded if m.startswith(("paho", "mqtt_presence.bridge", "mqtt_presence.client"))}


def test_rules_have_no_clock_no_io_no_log() -> None:
    """The rules are pure: their imports give no time, no random number and no file."""
    for path in (PACKAGE / "rules").glob("*.py"):
        assert {i.split(".")[0] for i in imports(path)} <= {
            "collections", "typing", "enum", "msgspec", "mqtt_presence",
        }  # fmt: skip


def test_topics_are_spelled_in_one_module() -> None:
    """Only `topics`, and the embedded broker's rights, know what a topic looks like."""
    topic = re.compile(r"(?:^|/)(?:presence|status|events|reply|bridge)/")
    wrong = {name_of(f): [s for s in strings(f) if topic.search(s) and " " not in s] for f in FILES}
    allowed = {"protocol/topics.py", "access/rights.py"}
    assert {f: s for f, s in wrong.items() if s and f not in allowed} == {}


def test_json_fields_are_spelled_in_one_room() -> None:
    """Only the modules that read and write payloads know the name of a JSON field."""
    fields = {
        "connectionId", "clientId", "userId", "userAgent", "ipAddr", "idleThreshold", "lastActivity", "lastLogin",
        "lastSeen", "loginTime", "logoutTime", "startedAt",
    }  # fmt: skip
    for path in FILES:
        if name_of(path) not in {
            "protocol/incoming.py",
            "protocol/outgoing.py",
            "protocol/client_messages.py",
        }:
            assert not {s for s in strings(path) if s in fields}, name_of(path)


def test_the_user_name_of_the_bridge_is_spelled_in_one_module() -> None:
    """Every module that sets up, runs or guards a broker takes the name from `access`."""
    spelled = re.compile(r'user\w*(?:: str)? = "bridge"', re.IGNORECASE)
    assert [name_of(f) for f in FILES if spelled.search(f.read_text())] == ["access/rights.py"]


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
