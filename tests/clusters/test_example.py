"""The example of a cluster ends well: each part is killed once, and database and broker agree."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster" / "cluster.py"


@pytest.mark.timeout(660)
def test_the_example_of_a_cluster() -> None:
    """Three bridges, three nodes of NATS and PostgreSQL, as documented; some four minutes."""
    ended = subprocess.run(
        [sys.executable, EXAMPLE, "--rounds=1", "--pause=12"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "all is right" in ended.stdout
    assert "24 of 24 users are online" in ended.stdout
