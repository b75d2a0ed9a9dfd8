"""Writing the figures into docs/performance.md."""

from pathlib import Path

Results = dict[str, dict[str, dict[str, float]]]

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
        f"- {scenario}: the bridge does **{_ratio(subjects, 'bare', figure):.2f}** x bare and "
        f"**{_ratio(subjects, 'usual', figure):.1f}** x the usual script; the load could do "
        f"{_ratio(subjects, 'bridge', figure, of='sink'):.1f} x the bridge"
        for scenario, figure in (("steady", "messages/s"), ("herd", "logins/s"))
        if "bare" in (subjects := results.get(scenario, {}))
    ]
    return "\n".join([*lines, "", *ratios])


def _ratio(subjects: dict[str, dict[str, float]], to: str, figure: str, of: str = "bridge") -> float:
    return subjects[of][figure] / subjects[to][figure]


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plot(results: Results, path: Path) -> None:
    """Draw steady and herd as bars."""
    import matplotlib as mpl  # noqa: PLC0415  only `make bench` has it

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    shown = [(s, f) for s, f in (("steady", "messages/s"), ("herd", "logins/s")) if s in results]
    figure, axes = plt.subplots(1, len(shown) or 1, figsize=(9, 3), squeeze=False)
    for axis, (scenario, name) in zip(axes[0], shown, strict=False):
        subjects = results[scenario]
        axis.barh(list(subjects), [figures[name] for figures in subjects.values()], color="#4477aa")
        axis.set_title(f"{scenario}: {name}")
        axis.invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
