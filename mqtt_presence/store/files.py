"""The files of an SQLite database."""

import os
from pathlib import Path


def which(file: Path | int) -> tuple[int, int] | None:
    """Return what tells a file from others, by its path or descriptor; None: there is none."""
    try:
        found = os.stat(file)  # noqa: PTH116 - pathlib takes no descriptor
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def beside(file: Path, suffix: str) -> Path:
    """Name a file beside another one, as SQLite does."""
    return file.with_name(file.name + suffix)
