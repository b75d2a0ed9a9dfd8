"""What is in the package that people install: built from the source distribution, as an index does it."""

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import hatch_build
from mqtt_presence.web import bundle
from tests.support.brokers import Mosquitto

ROOT = Path(__file__).parents[2]
STATIC = "mqtt_presence/web/static/"
VENDOR = f"{hatch_build.VENDOR}/"
BUILT = f"{STATIC}built/"


def hatchling(source: Path, target: str, out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Build what is in a directory, without a network for anything but MQTT.js."""
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(out)],
        cwd=source,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def build(source: Path, target: str, out: Path, **environment: str) -> tuple[Path, str]:
    """Return the one file that was made, and what was said."""
    done = hatchling(source, target, out, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    [made] = out.iterdir()
    return made, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a source distribution."""
    made, _ = build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))
    return made


def unpack(sdist: Path, directory: Path) -> Path:
    with tarfile.open(sdist) as tar:
        tar.extractall(directory, filter="data")
    [source] = directory.iterdir()
    return source


@pytest.fixture
def source(sdist: Path, tmp_path: Path) -> Path:
    """Unpack the source distribution, where nothing was fetched yet."""
    return unpack(sdist, tmp_path / "source")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Build a wheel of it."""
    directory = tmp_path_factory.mktemp("wheel")
    made, said = build(unpack(sdist, directory / "source"), "wheel", directory / "made")
    assert "NOT in this build" not in said
    with zipfile.ZipFile(made) as opened:
        yield opened


def test_sdist_has_no_third_party_code(sdist: Path) -> None:
    """What others wrote comes from where they publish it, when a wheel is built."""
    with tarfile.open(sdist) as tar:
        names = tar.getnames()
    assert any(name.endswith("/hatch_build.py") for name in names)
    assert not [name for name in names if "/vendor/" in name or "/built/" in name or "node_modules" in name]


def test_wheel_has_the_browser_client_and_mqtt_js(wheel: zipfile.ZipFile) -> None:
    """The modules, MQTT.js as npm has it, the page's libraries and its bundle, each with its licence."""
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / STATIC).rglob("*") if path.is_file()}
    ours = {name for name in ours if not name.startswith((VENDOR, BUILT))}
    assert f"{STATIC}presence.js" in ours
    names = set(wheel.namelist())
    assert ours <= names
    assert {name for name in names if name.startswith(VENDOR)} == {
        f"{VENDOR}{name}" for name in (*hatch_build.TAKEN.values(), *hatch_build.BUILT)
    }
    licences = ("mqtt.LICENSE.md", "preact.LICENSE", "htm.LICENSE", "uplot.LICENSE")
    assert set(licences) <= set(hatch_build.TAKEN.values())
    installed = ROOT / "node_modules/mqtt"  # by npm itself, from the same lock file
    assert wheel.read(f"{VENDOR}mqtt.esm.js") == (installed / "dist/mqtt.esm.js").read_bytes()
    assert wheel.read(f"{VENDOR}mqtt.LICENSE.md") == (installed / "LICENSE.md").read_bytes()


def test_wheel_has_a_bundle_of_its_own_modules(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The server uses a bundle only if it was made of the modules beside it."""
    wheel.extractall(tmp_path)
    static = tmp_path / STATIC
    assert bundle.is_current(static)
    assert not re.search(r"""from ?["'][./]""", (static / bundle.BUNDLE).read_text("utf-8"))
    with (static / "page/main.js").open("a") as file:
        file.write("// changed\n")
    assert not bundle.is_current(static)


def test_wheel_has_the_files_that_init_broker_fills_in(wheel: zipfile.ZipFile) -> None:
    """They are those of broker_config/, which is not in the package's directory."""
    for name in ("mosquitto.conf", "acl"):
        shipped = (ROOT / "broker_config/mosquitto" / name).read_bytes()
        assert wheel.read(f"mqtt_presence/broker_config/mosquitto/{name}") == shipped


def test_check_works_from_the_wheel(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The data of every known broker is in the wheel, and `check` reads it from there, not from a checkout."""
    data = [
        path
        for path in (ROOT / "broker_config").rglob("*.toml")
        if path.name in ("check.toml", "generic.toml")
    ]
    assert len(data) >= 9
    for path in data:
        assert wheel.read(f"mqtt_presence/{path.relative_to(ROOT).as_posix()}") == path.read_bytes()
    wheel.extractall(tmp_path)

    def run(*arguments: str) -> str:
        return subprocess.run(
            [sys.executable, *arguments], env=os.environ | {"PYTHONPATH": str(tmp_path)}, cwd=tmp_path,
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    code = (
        "from mqtt_presence.tools.check import known_brokers as known; print(known.__file__);"
        "[print(kind, known.remedy_for(kind, 'passwords')) for kind in known.kinds()]"
    )
    place, *lines = run("-c", code).splitlines()
    assert Path(place).is_relative_to(tmp_path)
    kinds = sorted(path.parent.name for path in data if path.name == "check.toml")
    assert [line.split()[0] for line in lines] == [*kinds, "other"]
    assert all(len(line.split()) > 1 for line in lines)
    with Mosquitto(tmp_path / "broker", users={"bridge": "b", "alice": "a"}) as broker:
        urls = [f"mqtt://{user}@127.0.0.1:{broker.port}" for user in ("bridge:b", "alice:a")]
        found = run("-m", "mqtt_presence", "check", f"--broker={urls[0]}", f"--client={urls[1]}", "--json",
                    "--only=persistence")  # fmt: skip
    assert "`persistence true` (broker_config/mosquitto/mosquitto.conf)" in found


CLIENT_PACKAGES = {"mqtt-presence-bridge", "paho-mqtt", "msgspec"}
"""All that an installation of the clients consists of, beside pip itself."""


def test_base_install_is_the_clients_alone(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """A new environment gets three packages; both clients work there, and a command names what it needs."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", wheel.filename], check=True, capture_output=True, cwd=tmp_path)
    listed = subprocess.run([*pip, "list", "--format=json"], check=True, capture_output=True, cwd=tmp_path)
    names = {package["name"].lower().replace("_", "-") for package in json.loads(listed.stdout)}
    assert names - {"pip", "setuptools", "wheel"} == CLIENT_PACKAGES
    with Mosquitto(tmp_path / "broker") as broker:
        code = (
            "import mqtt_presence as m, mqtt_presence.aio, sys\n"
            "with m.PresenceClient(sys.argv[1]) as me, m.StatusWatcher(sys.argv[1]) as users:\n"
            "    print(me.connected, users.connected)"
        )
        url = f"mqtt://alice@127.0.0.1:{broker.port}"
        done = subprocess.run(
            [python, "-c", code, url], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.stdout == "True True\n", done.stderr
    command = subprocess.run(
        [tmp_path / "venv/bin/mqtt-presence", "users"], capture_output=True, text=True, check=False
    )
    assert command.returncode == 1
    assert command.stderr.count("\n") == 1
    assert "mqtt-presence-bridge[bridge]" in command.stderr


def test_wheel_has_nothing_else(wheel: zipfile.ZipFile) -> None:
    """The package and its metadata: no tests, no tools."""
    assert {name.partition("/")[0].partition("-")[0] for name in wheel.namelist()} == {
        "mqtt_presence",
        "mqtt_presence_bridge",
    }
    assert not [name for name in wheel.namelist() if "test" in name.lower() or "node_modules" in name]


def test_build_without_npm_says_so_and_works(source: Path, tmp_path: Path) -> None:
    """No npm is no reason to have no bridge: the build names what is missing, and has the rest."""
    (tmp_path / "empty").mkdir()
    made, said = build(source, "wheel", tmp_path / "made", PATH=str(tmp_path / "empty"))
    assert "MQTT.js, are NOT in this build: there is no npm" in said
    with zipfile.ZipFile(made) as opened:
        assert f"{STATIC}presence.js" in opened.namelist()
        assert "mqtt_presence/bridge/loop.py" in opened.namelist()
        assert not [name for name in opened.namelist() if name.startswith((VENDOR, BUILT))]


def npm_that(says: str, directory: Path) -> str:
    """Put an npm of the test's own on a PATH."""
    directory.mkdir()
    script = directory / "npm"
    script.write_text(f"#!/bin/sh\n{says}\n")
    script.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def test_build_with_an_npm_that_fails_says_why(source: Path, tmp_path: Path) -> None:
    """Offline: the build names what npm said."""
    path = npm_that("echo 'npm error network down' >&2; exit 1", tmp_path / "bin")
    _, said = build(source, "wheel", tmp_path / "made", PATH=path)
    assert "npm cannot fetch mqtt@" in said
    assert "network down" in said


def test_build_refuses_an_archive_that_is_not_the_pinned_one(source: Path, tmp_path: Path) -> None:
    """Whatever a registry sends under the name: only what the lock file's hash names gets in."""
    names = 'for a; do case "$a" in *@*) n="$n ${a%@*}-${a##*@}.tgz";; --pack-destination=*) d=${a#*=};; esac; done'
    fake = f'{names}; for f in $n; do echo other > "$d/$f"; done'
    path = npm_that(fake, tmp_path / "bin")
    done = hatchling(source, "wheel", tmp_path / "made", PATH=path)
    assert done.returncode != 0
    assert "pinned is sha512-" in done.stderr
    assert not (source / VENDOR / "mqtt.esm.js").exists()


def test_lock_file_names_hashes_and_no_machine() -> None:
    """Everything from npm is pinned by content, and comes from whichever registry npm is told to use."""
    packages = json.loads((ROOT / "package-lock.json").read_text("utf-8"))["packages"]
    assert "node_modules/mqtt" in packages
    others = {name: entry for name, entry in packages.items() if name}
    assert [name for name, entry in others.items() if not entry.get("integrity")] == []
    assert [name for name, entry in others.items() if "resolved" in entry] == []
