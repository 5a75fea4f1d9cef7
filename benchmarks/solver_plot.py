"""The latency-return front of `ldcq bench solvers` as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from services.actor.report.theme import LIGHT, Theme, new_figure, to_png

MARKERS = "os^Dv"
LABELS = ((6, 5), (6, -12), (-16, 5), (-16, -12))
"""Where a solver's labels stand beside their points, so that those of different ones stay apart."""

TITLES = {"return": "true return", "first_hit": "first hit"}

Row = Mapping[str, Any]


def on_front(rows: Sequence[Row], score: str) -> list[bool]:
    """Whether no other row is as fast (`seconds_1`) and better, or as good and faster."""

    def beaten(row: Row) -> bool:
        return any(
            other["seconds_1"] <= row["seconds_1"]
            and other[score] >= row[score]
            and (other["seconds_1"], other[score]) != (row["seconds_1"], row[score])
            for other in rows
        )

    return [not beaten(row) for row in rows]


def draw_front(rows: Sequence[Row], path: Path) -> None:
    """Writes a PNG with one panel per kind of return: points with intervals, the front a line."""
    scores = [name for name in TITLES if name in rows[0]]

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(6.2 * len(scores), 4.6, 1, len(scores))
        for panel, name in zip(axes, scores, strict=True):
            _panel(panel, theme, rows, name)
        axes[0].legend(loc="lower left")
        return figure

    path.write_bytes(to_png(draw, LIGHT))


def _panel(axes: Axes, theme: Theme, rows: Sequence[Row], score: str) -> None:
    solvers = list(dict.fromkeys(row["solver"] for row in rows))
    counts = list(dict.fromkeys(row["n"] for row in rows))
    front = [row for row, best in zip(rows, on_front(rows, score), strict=True) if best]
    front.sort(key=lambda row: float(row["seconds_1"]))
    axes.step(
        [1000 * row["seconds_1"] for row in front],
        [row[score] for row in front],
        where="post",
        color=theme.wall,
        zorder=0,
    )
    for row in rows:
        colour = theme.colour(solvers.index(row["solver"]))
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
        axes.plot([], [], "o", color=theme.colour(index), label=solver)
    if len(counts) > 1:
        for index, count in enumerate(counts):
            axes.plot(
                [], [], MARKERS[index % len(MARKERS)], color=theme.muted, label=f"n = {count}"
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("ms per decision for one state (labels: steps)")
    axes.set_ylabel(f"{TITLES[score]}, normalised")
