"""Schemathesis asks the API whatever its OpenAPI document allows, and what it forbids: all answers conform."""

import re
import subprocess
import sys
from pathlib import Path

from mqtt_presence.web import WebConfig, WebServer
from mqtt_presence.web.config import Token
from tests.integration.test_api import OPERATOR, fill
from tests.support.waiting import now_ms

BUDGET_S = 12


def test_all_answers_conform_to_the_document(sqlite_url: str, tmp_path: Path) -> None:
    """No answer is 500, has an undocumented status, type or shape, or accepts what the document forbids.

    The check that valid data is accepted is left out: only the server knows which cursors it has made. The
    stream has no end, and tests of its own.
    """
    fill(sqlite_url, now_ms())
    config = WebConfig(sqlite_url, port=0, mqtt_url="ws://127.0.0.1:1/", tokens=(Token(OPERATOR),))
    with WebServer(config) as page:
        url = f"http://127.0.0.1:{page.port}/api/v1"
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json", "--url", url,
                "--header", f"Authorization: Bearer {OPERATOR}", "--exclude-path", "/stream",
                "--checks", "all", "--exclude-checks", "positive_data_acceptance",
                "--phases", "examples,coverage,fuzzing", "--max-examples", "5", "--max-time", str(BUDGET_S),
                "--generation-deterministic", "--warnings", "off", "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    selected = re.search(r"Selected: (\d+)/(\d+)", done.stdout)
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert selected is not None, done.stdout
    assert tested is not None, done.stdout
    assert int(selected[1]) == int(selected[2]) - 1 == int(tested[1]) >= 13
