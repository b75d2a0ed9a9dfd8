"""Writing the figures into docs/performance.md."""

from pathlib import Path

Results = dict[str, dict[str, dict[str, float]]]

THROUGHPUT = (("steady", "messages/s", "CPU µs/message"), ("herd", "logins/s", "CPU µs/login"))
GROWTH_COST = "CPU µs/message"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def write(results: Results, docs: Path, rounds: int) -> None:
    """Replace the table between the marks, and the plot.

    Args:
        results: scenario, subject, figure.
        docs: the folder.
        rounds: how many each median is of.

    """
    page = docs / "performance.md"
    text = page.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{table(results, rounds)}\n{END}{after}")
    plot(results, docs / "performance.svg")


def table(results: Results, rounds: int) -> str:
    """Make a table of Markdown."""
    lines = [f"Medians of {rounds}.", "", "| load | subject | figures |", "|---|---|---|"]
    for scenario, subjects in results.items():
        for subject, figures in subjects.items():
            shown = ", ".join(f"{name} **{_shown(value)}**" for name, value in figures.items())
            lines.append(f"| {scenario} | {subject} | {shown} |")
    ratios = [
        f"- {scenario}: the bridge does **{_ratio(subjects, 'bare', figure):.2f}** x bare at "
        f"**{_ratio(subjects, 'bare', cost):.2f}** x its processor time, and "
        f"**{_ratio(subjects, 'usual', figure):.1f}** x the usual script; the load could do "
        f"{_ratio(subjects, 'bridge', figure, of='sink'):.1f} x the bridge"
        for scenario, figure, cost in THROUGHPUT
        if "bare" in (subjects := results.get(scenario, {}))
    ]
    return "\n".join([*lines, "", *ratios, *_databases(results), *_growth(results)])


def _databases(results: Results) -> list[str]:
    """Compare the databases with SQLite, which is first."""
    (_, base), *others = results.get("databases", {"": {}}).items()
    return [
        f"- databases: compared with SQLite, {name} does "
        + ", ".join(
            f"**{figures[what] / rate:.2f}** x the {what.removesuffix('/s')}"
            for what, rate in base.items()
            if what.endswith("/s")
        )
        for name, figures in others
    ]


def _growth(results: Results) -> list[str]:
    costs = _growth_costs(results)
    if not costs:
        return []
    (first, base), *more = costs.items()
    told = ", ".join(f"**{cost / base - 1:+.0%}** among {name}" for name, cost in more)
    return [f"- growth: compared with {first}, a message costs {told}"]


def _growth_costs(results: Results) -> dict[str, float]:
    return {name: r["bridge"][GROWTH_COST] for name, r in results.items() if name.endswith("records")}


def _ratio(subjects: dict[str, dict[str, float]], to: str, figure: str, of: str = "bridge") -> float:
    return subjects[of][figure] / subjects[to][figure]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(results: Results, path: Path) -> None:
    """Draw steady and herd as bars."""
    import matplotlib as mpl  # noqa: PLC0415  only `make bench` has it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    panels = {
        f"{scenario}: {name}": {subject: figures[name] for subject, figures in results[scenario].items()}
        for scenario, name, _ in THROUGHPUT
        if scenario in results
    }
    if growth := _growth_costs(results):
        panels[f"growth: {GROWTH_COST}"] = growth
    figure, axes = plt.subplots(1, len(panels) or 1, figsize=(12, 3), squeeze=False)
    for axis, (title, bars) in zip(axes[0], panels.items(), strict=False):
        axis.barh(list(bars), list(bars.values()), color="#4477aa")
        axis.set_title(title)
        axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
