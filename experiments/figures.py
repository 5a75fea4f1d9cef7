"""Pictures that several experiments draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.data import load_task
from common.store import Store
from experiments.evaluations import Evaluations
from experiments.experiment import Picture, Row
from ldcq.config import Config
from services.actor.report.maze_figure import maze_figure
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


def by_task(rows: Sequence[Row], setting: str) -> Draw:
    """The score of every method on every task, as bars with their intervals.

    Args:
        rows: Their score is the success, where that is known, else the return.
        setting: The column that names the task.
    """
    tasks = list(dict.fromkeys(str(row.settings[setting]) for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    width = 0.8 / len(methods)

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(1.6 + 1.1 * len(tasks), 3.4, 1, 1)
        (panel,) = axes
        for place, method in enumerate(methods):
            for row in rows:
                score = row.success_score or row.episode_return
                if row.method != method or score is None:
                    continue
                at = tasks.index(str(row.settings[setting])) + (place + 0.5) * width - 0.4
                colour = theme.colour(place)
                panel.bar(at, score.mean, 0.9 * width, color=colour, label=method_label(method))
                panel.plot([at, at], [score.ci_low, score.ci_high], color=theme.ink, linewidth=1)
        panel.set_xticks(range(len(tasks)), [task.replace("-", "\n", 1) for task in tasks])
        panel.set_ylabel("success, %" if rows[0].success_score else "return, D4RL-normalised")
        handles, labels = panel.get_legend_handles_labels()
        known = dict(zip(labels, handles, strict=True))
        # Above the bars, which may fill the panel.
        panel.legend(
            known.values(), known.keys(), fontsize=8,
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3,
        )  # fmt: skip
        return figure

    return draw


def trajectories(
    config: Config, store: Store, evaluations: Evaluations, methods: Sequence[str]
) -> list[Picture]:
    """Where the first training seed's episodes went; nothing for a task without a map."""
    layout = load_task(config, store.root).layout
    found = {method_label(name): evaluations.positions(name) for name in methods}
    drawn = {name: positions for name, positions in found.items() if positions is not None}
    if layout is None or not drawn:
        return []
    caption = (
        "The first episodes of each method with the first training seed. Open circles are starts, "
        "filled ones ends; the star is the goal."
    )
    return [Picture("trajectories", caption, maze_figure(layout, drawn, None))]


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
