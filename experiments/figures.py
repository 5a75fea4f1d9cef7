"""Pictures that several experiments draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.experiment import Row
from services.actor.report.score_figure import score_figure
from services.actor.report.theme import Draw, Theme, new_figure
from services.actor.report.wording import method_label
from services.actor.scores import Estimate

Get = Callable[[Row], Estimate | None]

SCORES: dict[str, Get] = {
    "return of whole episodes": lambda row: row.episode_return,
    "first hit": lambda row: row.first_hit,
}


def scores(rows: Sequence[Row]) -> Draw:
    """Every method's normalised scores as dots with their intervals."""
    return score_figure([{**row.as_json(), "normalised": True} for row in rows])


def curves(
    rows: Sequence[Row],
    setting: str,
    xlabel: str,
    *,
    group: Callable[[Row], str] = lambda row: method_label(row.method),
    log: bool = False,
) -> Draw:
    """The scores that any row has over a setting, one line with its intervals for each group.

    Args:
        rows: Those with a number under `setting`.
        setting: The column that is varied.
        xlabel: What it is called.
        group: The line that a row belongs to, as a reader calls it.
        log: Whether the setting is drawn on a logarithmic axis.
    """
    chosen = {
        title: get for title, get in SCORES.items() if any(get(row) is not None for row in rows)
    }
    groups = list(dict.fromkeys(map(group, rows)))
    marks = sorted({_at(row, setting) for row in rows})

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(4.6 * len(chosen), 3.2, 1, len(chosen))
        for panel, (title, get) in zip(axes, chosen.items(), strict=True):
            for index, name in enumerate(groups):
                points = [(_at(row, setting), get(row)) for row in rows if group(row) == name]
                _line(panel, points, name, theme.colour(index))
            panel.set_title(title)
            panel.set_xlabel(xlabel)
            if log:
                panel.set_xscale("log")
            panel.set_xticks(marks, [f"{mark:g}" for mark in marks])
            panel.set_xticks([], minor=True)
        axes[0].legend()
        return figure

    return draw


def _at(row: Row, setting: str) -> float:
    return float(row.settings[setting] or 0)


def _line(
    axes: Axes, points: Sequence[tuple[float, Estimate | None]], label: str, colour: str
) -> None:
    drawn = sorted((x, value) for x, value in points if value is not None)
    if not drawn:
        return
    at = [x for x, _ in drawn]
    axes.plot(at, [value.mean for _, value in drawn], "o-", color=colour, label=label)
    low, high = ([getattr(v, end) for _, v in drawn] for end in ("ci_low", "ci_high"))
    axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)
