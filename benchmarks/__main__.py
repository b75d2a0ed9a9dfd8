"""Run the measurements and write docs/performance.md's table and plot: `make bench`."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import api_load, databases, fleet_load, notified, scenarios
from benchmarks.report import write
from benchmarks.rig import BRIDGE

Scenario = Callable[[str], scenarios.Figures]

GROWTH = {"10 thousand records": 10_000, "100 thousand records": 100_000, "1 million records": 1_000_000}
SCENARIOS: dict[str, tuple[Scenario, tuple[str, ...]]] = {
    "steady": (scenarios.steady, (BRIDGE, "bare", "usual", "sink")),
    "herd": (scenarios.herd, (BRIDGE, "bare", "usual", "sink")),
    "offered": (scenarios.offered, (BRIDGE,)),
    "die-off": (scenarios.die_off, (BRIDGE,)),
    "latency": (scenarios.latency, (BRIDGE,)),
    "fleets": (fleet_load.fleets, (BRIDGE,)),
    "api": (api_load.api, (BRIDGE,)),
    "databases": (databases.databases, databases.SUBJECTS),
    "notified": (notified.notified, notified.SUBJECTS),
    **{name: (scenarios.growth(records), (BRIDGE,)) for name, records in GROWTH.items()},
}


def main() -> int:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="each figure is the median of so many")
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--write", action="store_true", help="write docs/performance.md and its plot")
    arguments = parser.parse_args()
    results: dict[str, dict[str, scenarios.Figures]] = {}
    for name in arguments.only:
        if name not in results:
            together = [n for n in arguments.only if n == name or {n, name} <= set(GROWTH)]
            results |= _measure(together, arguments.rounds)
    if arguments.write:
        write(results, Path(__file__).parents[1] / "docs", arguments.rounds)
    return 0


def _measure(names: list[str], rounds: int) -> dict[str, dict[str, scenarios.Figures]]:
    """Measure what is compared, turn by turn, so that what else the machine does hits all alike."""
    samples: dict[str, dict[str, list[scenarios.Figures]]] = {
        name: {subject: [] for subject in SCENARIOS[name][1]} for name in names
    }
    for _ in range(rounds):
        for name, of_subject in samples.items():
            for subject, runs in of_subject.items():
                runs.append(SCENARIOS[name][0](subject))
    medians = {name: {s: _medians(runs) for s, runs in by.items()} for name, by in samples.items()}
    for name, figures in medians.items():
        sys.stdout.write(f"{name}: {json.dumps(figures)}\n")
        sys.stdout.flush()
    return medians


def _medians(runs: list[scenarios.Figures]) -> scenarios.Figures:
    return {figure: round(statistics.median(run[figure] for run in runs), 3) for figure in runs[0]}


if __name__ == "__main__":
    sys.exit(main())
