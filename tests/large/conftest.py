"""A database with millions of records, made by SQL; `RECORDS` sets their number."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.large.million import Millions
from tests.support.postgres import Postgres

RECORDS = int(os.environ.get("RECORDS", "10000000"))
_BYTES_EACH = 800


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def millions(request: pytest.FixtureRequest) -> Iterator[Millions]:
    """Fill a database of each kind in turn; it is deleted before the next one."""
    free = shutil.disk_usage(tempfile.gettempdir()).free
    assert free > RECORDS * _BYTES_EACH, f"{RECORDS} records need {RECORDS * _BYTES_EACH / 1e9:.1f} GB"
    if request.param == "sqlite":
        with tempfile.TemporaryDirectory(prefix="presence-large-") as directory:
            yield Millions(f"sqlite:///{Path(directory) / 'presence.db'}", RECORDS)
    else:
        with Postgres() as cluster:
            yield Millions(cluster.database(), RECORDS)
