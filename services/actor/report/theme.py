"""One look for all figures, in a light and a dark version."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    """Colours of one version of the report."""

    name: str  # "light" or "dark"
    surface: str  # behind the figures
    ink: str  # titles
    muted: str  # axes, labels and notes
    grid: str  # hairlines
    wall: str  # of a maze
    series: tuple[str, ...]  # of the methods; told apart by colour-blind readers as well

    def colour(self, index: int) -> str:
        """The colour of the series `index`."""
        return self.series[index % len(self.series)]


LIGHT = Theme(
    "light",
    surface="#ffffff",
    ink="#16191d",
    muted="#5f6670",
    grid="#e4e7ea",
    wall="#c9ced4",
    series=("#2a6fdb", "#d9741a", "#1d9a6c", "#7a7f87", "#8a4fd0", "#c23b6b"),
)
DARK = Theme(
    "dark",
    surface="#191c20",
    ink="#eceef0",
    muted="#a0a7b0",
    grid="#2e333a",
    wall="#454c55",
    series=("#6aa5ff", "#f0964a", "#46c795", "#a8aeb6", "#b68cf0", "#ee7ba3"),
)
THEMES = (LIGHT, DARK)

Draw = Callable[[Theme], Figure]
"""Draws a figure in a theme."""


@contextmanager
def applied(theme: Theme) -> Iterator[None]:
    """Matplotlib's defaults in this theme, for as long as the block runs."""
    settings = {
        "figure.facecolor": theme.surface,
        "axes.facecolor": theme.surface,
        "axes.edgecolor": theme.grid,
        "axes.labelcolor": theme.muted,
        "axes.titlecolor": theme.ink,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.labelsize": 9,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "text.color": theme.ink,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "font.size": 9,
        "lines.linewidth": 1.8,
    }
    with mpl.rc_context(settings):
        yield


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches and its axes, row by row. Needs no display and no
    global state.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(w_pad=0.1, h_pad=0.1)  # type: ignore[call-arg]
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.ravel())


def hide(axes: Sequence[Axes]) -> None:
    """Blanks panels that a grid has too many."""
    for panel in axes:
        panel.set_axis_off()


def to_png(draw: Draw, theme: Theme, dpi: int = 130) -> bytes:
    """The figure as PNG."""
    with applied(theme):
        figure = draw(theme)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi, facecolor=theme.surface)
    return buffer.getvalue()
