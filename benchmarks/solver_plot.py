"""The latency-return front of `ldcq bench solvers` as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00")
"""Told apart by colour-blind readers too (Okabe and Ito)."""

MARKERS = "os^Dv"
LABELS = ((6, 5), (6, -12), (-16, 5), (-16, -12))
"""Where a solver's labels stand beside their points, so that those of different ones stay apart."""

TITLES = {"return": "true return", "first_hit": "first hit"}

Row = Mapping[str, Any]


def on_front(rows: Sequence[Row], score: str) -> list[bool]:
    """Whether no other row is as fast and better, or as good and faster.

    Args:
        rows: With `seconds_1` and the score.
        score: Which column is to be high.
    """

    def beaten(row: Row) -> bool:
        return any(
            other["seconds_1"] <= row["seconds_1"]
            and other[score] >= row[score]
            and (other["seconds_1"], other[score]) != (row["seconds_1"], row[score])
            for other in rows
        )

    return [not beaten(row) for row in rows]


def draw_front(rows: Sequence[Row], path: Path) -> None:
    """One panel per kind of return: points with their intervals, the front as a line.

    Args:
        rows: Of the benchmark.
        path: PNG to write.
    """
    scores = [name for name in TITLES if name in rows[0]]
    figure = Figure(figsize=(6.2 * len(scores), 4.6), layout="constrained")
    axes = figure.subplots(1, len(scores), squeeze=False)[0]
    for panel, name in zip(axes, scores, strict=True):
        _panel(panel, rows, name)
    axes[0].legend(frameon=False, loc="lower left")
    figure.savefig(path, dpi=130)


def _panel(axes: Axes, rows: Sequence[Row], score: str) -> None:
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    counts = list(dict.fromkeys(row["n"] for row in rows))
    front = [row for row, best in zip(rows, on_front(rows, score), strict=True) if best]
    front.sort(key=lambda row: float(row["seconds_1"]))
    axes.step(
        [1000 * row["seconds_1"] for row in front],
        [row[score] for row in front],
        where="post",
        color="0.75",
        zorder=0,
    )
    for row in rows:
        colour = COLOURS[solvers.index(row["solver"]) % len(COLOURS)]
        low, high = row[score] - row[f"{score}_low"], row[f"{score}_high"] - row[score]
        place = 1000 * row["seconds_1"], row[score]
        axes.errorbar(
            *place,
            yerr=[[low], [high]],
            color=colour,
            marker=MARKERS[counts.index(row["n"]) % len(MARKERS)],
            elinewidth=0.8,
            alpha=0.9,
        )
        offset = LABELS[solvers.index(row["solver"]) % len(LABELS)]
        axes.annotate(
            str(row["steps"]), place, xytext=offset, textcoords="offset points", color=colour
        )
    for index, solver in enumerate(solvers):
        axes.plot([], [], "o", color=COLOURS[index % len(COLOURS)], label=solver)
    if len(counts) > 1:
        for index, count in enumerate(counts):
            axes.plot([], [], MARKERS[index % len(MARKERS)], color="0.4", label=f"n = {count}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("ms per decision for one state (labels: steps)")
    axes.set_ylabel(f"{TITLES[score]}, normalised")
    axes.spines[["top", "right"]].set_visible(False)
