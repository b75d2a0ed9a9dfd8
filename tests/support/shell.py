"""A shell in which tests type commands of documents, and the marked blocks of those documents."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Self

from tests.support.waiting import until


def block(document: Path, mark: str) -> str:
    """Return the fenced block under a comment such as `<!-- run: login -->`."""
    pattern = rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)\n```"
    found = re.findall(pattern, document.read_text("utf-8"), re.DOTALL)
    assert len(found) == 1, (document.name, mark)
    return found[0]


class Shell:
    """A shell with background jobs that survive a block, on ports of its own.

    Args:
        directory: where the commands are typed.
        home: of settings and data; pip and npm keep their caches.
        port: the broker's, which replaces the default one in the blocks.
        path: the directory of commands that the shell finds first; None for those of the system only.

    """

    def __init__(self, directory: Path, home: Path, port: int, path: Path | None = None) -> None:
        self.directory = directory
        self._home = home
        self.port = port
        self._path = path
        self._done = 0
        self._process: subprocess.Popen[str] | None = None
        self._started: list[subprocess.Popen[bytes]] = []

    def environment(self) -> dict[str, str]:
        config = self._home / ".config"
        config.mkdir(exist_ok=True)
        for name in ("mosquitto_pub", "mosquitto_sub"):  # the clients' own defaults
            (config / name).write_text(f"-p {self.port}\n")
        of_pip = Path.home() / ".config/pip"  # where the packages come from on this machine
        if of_pip.exists() and not (config / "pip").exists():
            (config / "pip").symlink_to(of_pip)
        dropped = ("MQTT_PRESENCE_", "XDG_CONFIG", "XDG_DATA", "VIRTUAL_ENV", "MAKE", "MFLAGS")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        folders = [*([str(self._path)] if self._path else []), *os.environ["PATH"].split(os.pathsep)]
        if self._path is None:
            folders = [f for f in folders if not (Path(f) / "mqtt-presence").exists()]
        return inherited | {
            "PATH": os.pathsep.join(folders),
            "XDG_CONFIG_HOME": str(config),
            "XDG_DATA_HOME": str(self._home / "data"),
            "TZ": "UTC",
            "PIP_NO_COMPILE": "1",  # it compiles every module of every package otherwise
            "PORT": str(self.port),  # of examples/device.sh
            "MQTT_PRESENCE_PORT": str(self.port),
            "MQTT_PRESENCE_WS_PORT": "0",
            "MQTT_PRESENCE_WEB_PORT": "0",
        }

    def text(self, block: str) -> str:
        """Return the block, with a port where it has none."""
        return re.sub(r"@127\.0\.0\.1(?!:)", f"@127.0.0.1:{self.port}", block).replace(
            '"127.0.0.1", keepalive', f'"127.0.0.1", {self.port}, keepalive'
        )

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.directory,
            env=self.environment(),
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        for process in (self._process, *self._started):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        self._process.communicate()
        for process in self._started:
            process.wait(10)

    def run(self, block: str) -> str:
        """Run a block and return its output; background jobs continue."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._done += 1
        mark = f"--done {self._done}: "
        self._process.stdin.write(f"{self.text(block)}\necho '{mark}'$?\n")
        self._process.stdin.flush()
        output = []
        for line in self._process.stdout:
            if line.startswith(mark):
                assert line.removeprefix(mark).strip() == "0", (block, output)
                return "".join(output)
            output.append(line)
        raise AssertionError(f"the shell ended in {block!r}: {output}")

    def start(self, block: str) -> subprocess.Popen[bytes]:
        """Run a block in a terminal of its own, with the virtual environment of this shell."""
        activated = self.run('echo "$PATH"').strip()
        self._done += 1
        with (self._home / f"{self._done}.log").open("wb") as log:
            started = subprocess.Popen(
                ["bash", "-c", self.text(block)],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.environment() | {"PATH": activated},
                start_new_session=True,
            )
        self._started.append(started)
        return started

    def interrupt(self, process: subprocess.Popen[bytes]) -> None:
        """Press Ctrl-C in the terminal of a block."""
        assert process.poll() is None, self.log()
        os.killpg(process.pid, signal.SIGINT)
        process.wait(30)
        until(lambda: not _is_alive(process.pid), "all of its processes end")

    def log(self) -> str:
        """Return the output of all terminals."""
        return "\n".join(p.read_text(errors="replace") for p in sorted(self._home.glob("*.log")))


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
