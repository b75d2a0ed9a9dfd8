"""Node, for the tests of the browser client: whole files of tests, and a process that does what it is told."""

import re
import subprocess
from pathlib import Path

TESTS = Path(__file__).parents[1] / "node"
TIMEOUT_S = 60.0


def run_tests(file: Path) -> dict[str, int]:
    """Run a file under ``node --test``; return how many tests passed, failed, were skipped. What failed is printed."""
    command = ["node", "--test", "--test-reporter=tap", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    counts = {name: int(n) for name, n in re.findall(r"^# (\w+) (\d+)$", done.stdout, re.MULTILINE)}
    if done.returncode or counts.get("fail"):
        print(done.stdout, done.stderr)
        counts["fail"] = counts.get("fail", 0) or 1
    return counts
