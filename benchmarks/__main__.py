"""Run the measurements and write docs/performance.md's table and plot: `make bench`."""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import scenarios
from benchmarks.report import write
from benchmarks.rig import BRIDGE

Scenario = Callable[[str], scenarios.Figures]

SCENARIOS: dict[str, tuple[Scenario, tuple[str, ...]]] = {
    "steady": (scenarios.steady, (BRIDGE, "bare", "usual", "sink")),
    "herd": (scenarios.herd, (BRIDGE, "bare", "usual", "sink")),
    "offered": (scenarios.offered, (BRIDGE,)),
    "die-off": (scenarios.die_off, (BRIDGE,)),
    "latency": (scenarios.latency, (BRIDGE,)),
    "10 thousand records": (scenarios.growth(10_000), (BRIDGE,)),
    "100 thousand records": (scenarios.growth(100_000), (BRIDGE,)),
    "1 million records": (scenarios.growth(1_000_000), (BRIDGE,)),
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
        scenario, subjects = SCENARIOS[name]
        samples: dict[str, list[scenarios.Figures]] = {subject: [] for subject in subjects}
        for _ in range(arguments.rounds):
            for subject in subjects:  # alternating, so that what else the machine does hits all alike
                samples[subject].append(scenario(subject))
        results[name] = {subject: _medians(runs) for subject, runs in samples.items()}
        sys.stdout.write(f"{name}: {json.dumps(results[name])}\n")
        sys.stdout.flush()
    if arguments.write:
        write(results, Path(__file__).parents[1] / "docs", arguments.rounds)
    return 0


def _medians(runs: list[scenarios.Figures]) -> scenarios.Figures:
    return {figure: round(statistics.median(run[figure] for run in runs), 3) for figure in runs[0]}


if __name__ == "__main__":
    sys.exit(main())
