"""A process whose wall clock a test sets, by libfaketime; its monotonic clock is the machine's."""

import shutil
from pathlib import Path


class FakeTime:
    """The wall clock of the processes that are started with its `environment`.

    Args:
        file: where libfaketime reads the offset.
        start: the first offset from the machine's clock: ``-56y``, ``+0``.

    """

    def __init__(self, file: Path, start: str = "+0") -> None:
        self._file = file
        self.set(start)

    def set(self, offset: str) -> None:
        """Set the clock to this offset from the machine's: ``+5y``."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.rename(self._file)  # a process never reads half of it

    @property
    def environment(self) -> dict[str, str]:
        """The variables for a process."""
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }


def _library() -> Path:
    command = shutil.which("faketime")
    assert command is not None, "faketime is not installed"
    libraries = Path(command).parents[1] / "lib"
    found = [
        path for shape in ("faketime", "*/faketime") for path in libraries.glob(f"{shape}/libfaketimeMT.so.1")
    ]
    assert found, "libfaketimeMT.so.1 is not installed beside faketime"
    return found[0]
