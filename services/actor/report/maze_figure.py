"""Trajectories over the maze, one panel per method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import NDArray

from common.data import Layout
from common.data.maze import GOAL_RADIUS
from services.actor.report.theme import Draw, Theme, hide, new_figure

SHOWN = 24
"""Episodes drawn per method: enough to see what a method does, few enough to follow one."""
COLUMNS = 4

Positions = NDArray[np.floating]


def maze_figure(
    layout: Layout, trajectories: Mapping[str, Positions], data: Positions | None
) -> Draw:
    """Draws the first episodes of every method, and where the data have been.

    Args:
        layout: The maze.
        trajectories: Title to positions (E, T + 1, 2), NaN after the end of an episode.
        data: Positions in the data, shape (M, 2); None leaves that panel out.
    """
    panels = len(trajectories) + (data is not None)
    columns = panels if panels <= COLUMNS else -(-panels // -(-panels // COLUMNS))
    rows = -(-panels // columns)
    tall = layout.walls.shape[0] / layout.walls.shape[1]

    def draw(theme: Theme) -> Figure:
        width = min(4.0, 10.0 / columns)
        figure, axes = new_figure(width * columns, rows * (width * tall + 0.35), rows, columns)
        for place, (title, positions) in enumerate(trajectories.items()):
            draw_map(axes[place], layout, theme)
            _draw_episodes(axes[place], positions[:SHOWN], theme.colour(place), theme)
            axes[place].set_title(title)
        if data is not None:
            panel = axes[len(trajectories)]
            draw_map(panel, layout, theme)
            panel.scatter(
                data[:, 0], data[:, 1], s=1.5, color=theme.muted, alpha=0.5, linewidths=0, zorder=2
            )
            panel.set_title("where the data have been")
        hide(axes[panels:])
        return figure

    return draw


def draw_map(axes: Axes, layout: Layout, theme: Theme) -> None:
    """Draws walls, the disc that gives reward, and the goal in it."""
    axes.imshow(
        np.where(layout.walls, 1.0, np.nan),
        cmap=ListedColormap([theme.wall]),
        extent=layout.extent,
        interpolation="none",
        zorder=1,
    )
    if layout.goal is not None:
        x, y = layout.goal
        axes.add_patch(Circle((x, y), GOAL_RADIUS, color=theme.colour(2), alpha=0.3, zorder=2))
        axes.plot(x, y, "*", color=theme.ink, markersize=9, markeredgecolor=theme.surface, zorder=6)
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_episodes(axes: Axes, episodes: Positions, colour: str, theme: Theme) -> None:
    for path in episodes:
        known = path[np.isfinite(path).all(axis=1)]
        axes.plot(*known.T, color=colour, linewidth=0.9, alpha=0.6, zorder=3)
        axes.plot(*known[-1], "o", color=colour, markersize=4.5, markeredgewidth=0, zorder=5)
    starts = episodes[:, 0]
    axes.scatter(
        starts[:, 0], starts[:, 1], s=17, facecolors=theme.surface, edgecolors=colour, zorder=4
    )
