"""Other releases of the package: copies with a version and migrations of their own, run as processes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mqtt_presence
from mqtt_presence.store.upgrades import OLDEST_KNOWN
from tests.support.bridges import BridgeProcess


class Release:
    """A copy of the package.

    Args:
        directory: where the copy goes.
        version: its `__version__`.
        migrations: the source of additional migrations, by name.
        oldest_known: its oldest migration that programs must know; None: that of this release.

    """

    def __init__(
        self,
        directory: Path,
        version: str,
        migrations: dict[str, str] | None = None,
        oldest_known: str | None = None,
    ) -> None:
        self.directory = directory
        self.version = version
        package = directory / "mqtt_presence"
        static = shutil.ignore_patterns("__pycache__", "static")
        shutil.copytree(Path(mqtt_presence.__file__).parent, package, ignore=static)
        _replace(package / "__init__.py", f'"{mqtt_presence.__version__}"', f'"{version}"')
        if oldest_known is not None:
            _replace(package / "store" / "upgrades.py", f'"{OLDEST_KNOWN}"', f'"{oldest_known}"')
        for name, source in (migrations or {}).items():
            (package / "store" / "migrations" / f"{name}.py").write_text(source)

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a command of this release."""
        # The directory comes before that of the tests, which `-m` would put first.
        start = f"import sys; sys.path.insert(0, {str(self.directory)!r}); from mqtt_presence.cli import main; main()"
        return [sys.executable, "-c", start, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        ours = {k: v for k, v in os.environ.items() if not k.startswith("MQTT_PRESENCE_")}
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=60, env=ours
        )


def _replace(file: Path, before: str, after: str) -> None:
    text = file.read_text()
    assert text.count(before) == 1, (file, before)
    file.write_text(text.replace(before, after))


class ReleaseProcess(BridgeProcess):
    """A bridge of another release."""

    def __init__(self, release: Release, log: Path, **settings: Any) -> None:
        super().__init__(log, ready=False, **settings)
        self._release = release

    def _command(self) -> list[str]:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self._settings.items()]
        return self._release.command("run", *flags)
