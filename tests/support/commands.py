"""The installed command, as processes of a test."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import until

COMMAND = str(Path(sys.executable).with_name("mqtt-presence"))


class Running:
    """A running command, with its output so far."""

    def __init__(self, directory: Path, *arguments: str, **variables: str) -> None:
        self._files = [directory / f"{len(list(directory.iterdir()))}.{name}" for name in ("out", "err")]
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.process = subprocess.Popen(
                [COMMAND, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment(directory, **variables),
            )

    @property
    def output(self) -> bytes:
        return self._files[0].read_bytes()

    @property
    def out(self) -> str:
        return self._files[0].read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._files[1].read_text(errors="replace")

    def says(self, pattern: str, deadline_s: float = 15) -> str:
        """Wait for output that matches, on either stream; return the match."""

        def said() -> re.Match[str] | None:
            found = re.search(pattern, self.out) or re.search(pattern, self.err)
            assert found or self.process.poll() is None, f"ended: {self.out}\n{self.err}"
            return found

        try:
            return until(said, deadline_s=deadline_s)[0]
        except AssertionError as error:
            raise AssertionError(f"{pattern!r}: {error}\n{self.out}\n{self.err}") from None

    def end(self, sign: signal.Signals = signal.SIGTERM, deadline_s: float = 15) -> int:
        self.process.send_signal(sign)
        return self.process.wait(deadline_s)


def environment(directory: Path, **variables: str) -> dict[str, str]:
    """An environment without the developer's own settings and data."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MQTT_PRESENCE_", "XDG_"))}
    return (
        kept
        | {
            "XDG_DATA_HOME": str(directory / "data"),
            "XDG_CONFIG_HOME": str(directory / "config"),
            "TZ": "UTC",
            "MQTT_PRESENCE_WEB_PORT": "0",
        }
        | variables
    )


class Commands:
    """Starts commands, and ends those that still run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[Running] = []

    def start(self, *arguments: str, **variables: str) -> Running:
        running = Running(self.directory, *arguments, **variables)
        self._running.append(running)
        return running

    def done(self, *arguments: str, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            env=environment(self.directory, **variables),
        )

    def close(self) -> None:
        for running in self._running:
            if running.process.poll() is None:
                running.process.kill()
                running.process.wait(10)
