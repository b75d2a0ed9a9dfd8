"""Puts MQTT.js, which the browser client needs, into the wheel: one file, as package-lock.json pins it.

Without npm, or without a network, the build goes on and says what is missing: all but the browser works.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

VENDOR = "mqtt_presence/web/static/vendor"
TAKEN = {"package/dist/mqtt.esm.js": "mqtt.esm.js", "package/LICENSE.md": "mqtt.LICENSE.md"}
"""What is taken out of npm's archive, and what it is called here."""
STAMP = "mqtt.integrity"
"""Tells which archive the files there are from."""
NPM_TIMEOUT_S = 120


class MissingError(Exception):
    """MQTT.js cannot be had here; the message says why."""


class MqttJsHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs before a wheel is built, an editable one too."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Fetch the files if they are not there, and add them to the wheel.

        Raises:
            ValueError: npm brought something else than what the lock file pins.

        """
        del version
        root = Path(self.root)
        try:
            fetch(root)
        except MissingError as error:
            self.app.display_warning(
                f"MQTT.js is NOT in this build: {error}\n"
                "Broker, bridge and command line work; the web page and presence.js need it: install npm"
                " (Debian: apt-get install npm) and build again. docs/browser.md says more."
            )
        else:
            build_data["artifacts"] += [f"/{VENDOR}/{name}" for name in TAKEN.values()]


def fetch(root: Path) -> None:
    """Put the pinned MQTT.js and its licence where the web server looks for them.

    Args:
        root: the directory of package-lock.json.

    Raises:
        MissingError: there is no npm, or it cannot bring it.
        ValueError: what it brought is not what is pinned.

    """
    pinned = json.loads((root / "package-lock.json").read_text("utf-8"))["packages"]["node_modules/mqtt"]
    vendor = root / VENDOR
    stamp = f"mqtt {pinned['version']} {pinned['integrity']}\n"
    names = [*TAKEN.values(), STAMP]
    if all((vendor / name).is_file() for name in names) and (vendor / STAMP).read_text("utf-8") == stamp:
        return
    for name in names:  # one of another version must not pass for this one
        (vendor / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        archive = _pack(root, f"mqtt@{pinned['version']}", Path(directory))
        _verify(archive, pinned["integrity"])
        vendor.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as tar:
            for member, name in TAKEN.items():
                source = tar.extractfile(member)
                if source is None:
                    raise ValueError(f"{member} is no file in mqtt {pinned['version']}")
                (vendor / name).write_bytes(source.read())
        (vendor / STAMP).write_text(stamp, "utf-8")


def _pack(root: Path, package: str, directory: Path) -> Path:
    """Let npm download a package, without running anything of it."""
    npm = shutil.which("npm")
    if npm is None:
        raise MissingError("there is no npm on the PATH")
    command = [npm, "pack", package, "--ignore-scripts", "--prefer-offline", "--loglevel=error"]
    command += [f"--pack-destination={directory}"]
    try:
        done = subprocess.run(  # noqa: S603 - a constant but for the version in the lock file
            command, cwd=root, capture_output=True, text=True, timeout=NPM_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"npm does not work: {error}") from error
    archives = list(directory.glob("*.tgz"))
    if done.returncode or len(archives) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise MissingError(f"npm cannot fetch {package}: {' '.join(said[:3]) or f'exit {done.returncode}'}")
    return archives[0]


def _verify(archive: Path, integrity: str) -> None:
    """Compare with the lock file's own hash: ours to check, whatever the registry said."""
    algorithm, _, expected = integrity.partition("-")
    digest = base64.b64encode(hashlib.new(algorithm, archive.read_bytes()).digest()).decode()
    if digest != expected:
        raise ValueError(f"npm brought a {archive.name} with {algorithm}-{digest}, pinned is {integrity}")
