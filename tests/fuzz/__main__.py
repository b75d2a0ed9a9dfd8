"""Run the fuzz targets with atheris for a bounded time, one process each: `make fuzz`, `python -m tests.fuzz`.

What it finds is written to `.fuzz/<target>/crash-…`; make it a seed of the target once it is corrected.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HOME = Path(__file__).parents[2] / ".fuzz"
WORDS = (
    '"connectionId"', '"time"', '"userAgent"', '"idleThreshold"', '"timeout"', '"announce"', '"meta"', '"idle"',
    '"lastActivity"', '"t0"', "null", "true", "false", "1e308", "-0.0", "presence/", "/login", "MQTT", "://",
)  # fmt: skip


def drive(name: str, seconds: int) -> None:
    """Fuzz one target in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["mqtt_presence", "tests.fuzz.targets"]):
        from tests.fuzz.targets import SEEDS, TARGETS

    corpus = HOME / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = HOME / "words"
    words.write_text(
        "".join(f'"{word.translate(str.maketrans({chr(34): chr(92) + chr(34)}))}"\n' for word in WORDS)
    )
    options = [
        f"-max_total_time={seconds}", f"-artifact_prefix={corpus}/", f"-dict={words}", "-max_len=600", "-timeout=10",
        "-print_final_stats=1", "-verbosity=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(corpus)], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    """Fuzz each target in turn."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--only", nargs="*", help="these targets; default: all")
    parser.add_argument("--drive", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.drive:
        drive(arguments.drive, arguments.seconds)
        return 0
    from tests.fuzz.targets import TARGETS

    HOME.mkdir(exist_ok=True)
    failed = []
    for name in arguments.only or TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", "--drive", name, "--seconds", str(arguments.seconds)]
        log = HOME / f"{name}.log"
        with log.open("wb") as out:
            code = subprocess.run(command, stdout=out, stderr=out, check=False).returncode
        said = log.read_text(errors="replace")
        runs = next(
            (line.split()[-1] for line in said.splitlines() if "number_of_executed_units" in line), "?"
        )
        print(
            f"{name}: {runs} runs, {'nothing found' if code == 0 else f'FOUND SOMETHING: {log}'}", flush=True
        )
        if code:
            failed.append(name)
            print(said[-3000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
