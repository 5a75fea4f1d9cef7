"""The training curves of every stage, read from its metric log."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from common.training import read_metrics
from services.actor.report.theme import Draw, Theme, hide, new_figure

COLUMNS = 3
_VALIDATION = "validation/"


@dataclass(frozen=True)
class Curve:
    """One metric over the steps of training, (K,) each."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]


Panels = dict[str, dict[str, Curve]]
"""Metric to its curves: "training", "validation" or both."""


def read_logs(folder: Path) -> dict[str, Panels]:
    """The metric logs of all stages under `folder`, by stage; a stage that logged nothing is left
    out.
    """
    stages: dict[str, Panels] = {}
    for path in sorted(folder.glob("*/metrics.csv")):
        panels: Panels = {}
        for name, (steps, values) in read_metrics(path).items():
            finite = np.isfinite(values)
            if finite.any():
                split = "validation" if name.startswith(_VALIDATION) else "training"
                curve = Curve(steps[finite], values[finite])
                panels.setdefault(name.removeprefix(_VALIDATION), {})[split] = curve
        if panels:
            stages[path.parent.name] = panels
    return stages


def loss_figure(panels: Panels) -> Draw:
    """Draws one small panel per metric, training and validation in the same one."""

    def draw(theme: Theme) -> Figure:
        rows = math.ceil(len(panels) / COLUMNS)
        figure, axes = new_figure(10.0, 0.2 + 2.0 * rows, rows, COLUMNS)
        for panel, (metric, curves) in zip(axes, sorted(panels.items(), key=_order), strict=False):
            _panel(panel, theme, metric, curves)
        hide(axes[len(panels) :])
        return figure

    return draw


def _panel(axes: Axes, theme: Theme, metric: str, curves: dict[str, Curve]) -> None:
    for place, split in enumerate(("training", "validation")):
        if split in curves:
            curve = curves[split]
            marker = "o" if len(curve.steps) == 1 else ""
            colour = theme.colour(place)
            axes.plot(curve.steps, curve.values, color=colour, marker=marker, label=split)
    axes.set_title(metric.replace("_", " ").replace("/", " "))
    axes.set_xlabel("training step")
    axes.locator_params(axis="x", nbins=5)
    values = np.concatenate([curve.values for curve in curves.values()])
    if "learning_rate" not in metric and (values > 0).all() and values.max() > 100 * values.min():
        axes.set_yscale("log")
    if len(curves) > 1:
        axes.legend(loc="best")


def _order(item: tuple[str, dict[str, Curve]]) -> tuple[bool, str]:
    """Losses first, then the rest by name."""
    return ("loss" not in item[0], item[0])
