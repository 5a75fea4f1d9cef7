"""The scores as dots with their confidence intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from services.actor.report.theme import Draw, Theme, new_figure
from services.actor.report.wording import method_label

Row = Mapping[str, Any]
"""One row of an evaluation, as in report.json."""


def score_figure(rows: Sequence[Row]) -> Draw:
    """Draws every score that the task defines, one panel each, methods in the order of the rows."""
    unit = "D4RL-normalised" if rows[0]["normalised"] else "raw return"
    panels = [("return", f"Return of whole episodes ({unit})")]
    if any(row.get("success_score") for row in rows):
        panels.insert(0, ("success_score", "Success, % of episodes"))
    if any(row["first_hit"] for row in rows):
        panels.append(("first_hit", f"First hit ({unit})"))

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(4.9 * len(panels), 1.0 + 0.42 * len(rows), 1, len(panels))
        for panel, (key, title) in zip(axes, panels, strict=True):
            _panel(panel, theme, rows, key)
            panel.set_title(title)
        for panel in axes[1:]:
            panel.set_yticklabels([])
        return figure

    return draw


def _panel(axes: Axes, theme: Theme, rows: Sequence[Row], key: str) -> None:
    for place, row in enumerate(rows):
        estimate = row.get(key)
        if estimate is None:
            continue
        mean, low, high = estimate["mean"], estimate["ci_low"], estimate["ci_high"]
        colour = theme.colour(place)
        axes.plot([low, high], [place, place], color=colour, linewidth=5, alpha=0.35)
        axes.plot([mean], [place], "o", color=colour, markersize=7, markeredgecolor=theme.surface)
        axes.annotate(
            f"{mean:.1f}",
            (mean, place),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize=8.5,
            color=theme.ink,
        )
    axes.set_yticks(range(len(rows)), [method_label(row["method"]) for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.75)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.08)
    axes.axvline(0.0, color=theme.muted, linewidth=0.8)
