"""Node for the tests of the browser client: test files, and a simulated page under control of a test."""

import json
import re
import select
import subprocess
from pathlib import Path
from typing import Any, Self

TESTS = Path(__file__).parents[1] / "node"
TIMEOUT_S = 60.0


def run_tests(file: Path) -> dict[str, int]:
    """Run a file under ``node --test``; print failures, and return the numbers of passed, failed and skipped tests."""
    command = ["node", "--test", "--test-reporter=tap", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    counts = {name: int(n) for name, n in re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE)}
    if done.returncode or counts.get("fail"):
        print(done.stdout, done.stderr)
        counts["fail"] = counts.get("fail", 0) or 1
    return counts


class PageError(Exception):
    """An error that the JavaScript code threw."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Page:
    """Node with the browser client, a simulated page and real sockets.

    Call it with the body of an async function; it returns what that returned. ``tests/node/puppet.js`` has the names
    that are there.

    Args:
        log: where everything goes that it says unasked: at the end there must be nothing.

    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["node", str(TESTS / "puppet.js")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
            )
        return self

    def __call__(self, code: str) -> Any:
        """Run a command; raise the error that it threw."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(code) + "\n")
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
        line = process.stdout.readline() if ready else ""
        assert line, f"no answer to {code}\n{self._log.read_text()}"
        answer = json.loads(line)
        if "error" in answer:
            raise PageError(**answer["error"])
        return answer["result"]

    def crash(self) -> None:
        """Kill Node, as a crash ends a browser."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(20)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        process = self._process
        assert process is not None
        if process.poll() is None and process.stdin is not None:
            process.stdin.close()
            try:
                process.wait(20)
            finally:
                process.kill()
                process.wait(20)
            assert kind is not None or process.returncode == 0, self._log.read_text()
        if process.stdout is not None:
            process.stdout.close()
        assert kind is not None or self._log.read_text() == ""
