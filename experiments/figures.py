"""Pictures that several experiments draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.result import Row
from services.actor.report.score_figure import score_figure
from services.actor.report.theme import Draw, Theme, new_figure
from services.actor.report.wording import method_labels
from services.actor.scores import Estimate

Get = Callable[[Row], Estimate | None]

SCORES: dict[str, Get] = {
    "return of whole episodes": lambda row: row.episode_return,
    "first hit": lambda row: row.first_hit,
}


def labels(rows: Sequence[Row]) -> dict[str, str]:
    """A method's name to what a reader calls it."""
    return method_labels([{"method": row.method} for row in rows])


def scores(rows: Sequence[Row]) -> Draw:
    """Every method's normalised scores as dots with their intervals."""
    table = [{**row.as_json(), "normalised": True} for row in rows]
    return score_figure(table, labels(rows))


def curves(
    rows: Sequence[Row],
    setting: str,
    xlabel: str,
    *,
    names: Mapping[str, str] | None = None,
    group: Callable[[Row], str] = lambda row: row.method,
    log: bool = False,
) -> Draw:
    """The scores that any row has over a setting, one line with its intervals for each method.

    Args:
        rows: Those with a number under `setting`.
        setting: The column that is varied.
        xlabel: What it is called.
        names: A group's name to what a reader calls it; None: the methods' names.
        group: The line that a row belongs to.
        log: Whether the setting is drawn on a logarithmic axis.
    """
    chosen = {
        title: get for title, get in SCORES.items() if any(get(row) is not None for row in rows)
    }
    known = names or labels(rows)
    groups = list(dict.fromkeys(map(group, rows)))

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(4.6 * len(chosen), 3.2, 1, len(chosen))
        for panel, (title, get) in zip(axes, chosen.items(), strict=True):
            for index, name in enumerate(groups):
                line = [row for row in rows if group(row) == name]
                _line(panel, line, setting, get, known.get(name, name), theme.colour(index))
            panel.set_title(title)
            panel.set_xlabel(xlabel)
            _mark_settings(panel, rows, setting, log=log)
        axes[0].legend()
        return figure

    return draw


def _line(axes: Axes, rows: Sequence[Row], setting: str, get: Get, label: str, colour: str) -> None:
    points = [(float(row.settings[setting] or 0), get(row)) for row in rows]
    drawn = sorted((x, value) for x, value in points if value is not None)
    if not drawn:
        return
    at = [x for x, _ in drawn]
    axes.plot(at, [value.mean for _, value in drawn], "o-", color=colour, label=label)
    low, high = ([getattr(v, end) for _, v in drawn] for end in ("ci_low", "ci_high"))
    axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0)


def _mark_settings(axes: Axes, rows: Sequence[Row], setting: str, *, log: bool) -> None:
    """Ticks where something was measured."""
    if log:
        axes.set_xscale("log")
    marks = sorted({float(row.settings[setting] or 0) for row in rows})
    axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
    axes.set_xticks([], minor=True)
