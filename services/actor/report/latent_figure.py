"""Latents on their two main axes: what the data has, and what each prior draws (sections 5.1 to
5.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from services.actor.report.theme import Draw, Theme, new_figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """The first two principal components of a set of latents."""

    centre: Floats  # (Z,)
    axes: Floats  # unit vectors, (2, Z); zero where Z is 1
    explained: Floats  # share of the variance on each, (2,)

    def __call__(self, latents: NDArray[np.floating]) -> Floats:
        """Latents (M, Z) to points (M, 2)."""
        points: Floats = (np.asarray(latents, dtype=np.float64) - self.centre) @ self.axes.T
        return points


@dataclass(frozen=True)
class LatentSamples:
    """What the figure compares; every array is (M, Z)."""

    data: NDArray[np.floating]  # over many states
    priors: Mapping[str, NDArray[np.floating]]  # one sample at each of the same states
    data_near: NDArray[np.floating]  # at the states nearest to one state
    priors_near: Mapping[str, NDArray[np.floating]]  # samples at that state


def principal_components(latents: NDArray[np.floating]) -> Projection:
    """The two directions along which latents (M, Z) vary most, signs fixed so that a plot repeats
    exactly.
    """
    values = np.asarray(latents, dtype=np.float64)
    centre = values.mean(axis=0)
    _, scales, directions = np.linalg.svd(values - centre, full_matrices=False)
    count = min(2, len(directions))
    axes = np.zeros((2, values.shape[1]))
    axes[:count] = directions[:count]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    axes *= np.where(largest < 0, -1.0, 1.0)
    variance = np.zeros(2)
    variance[:count] = scales[:count] ** 2
    return Projection(centre, axes, variance / max(float((scales**2).sum()), 1e-12))


def latent_figure(samples: LatentSamples) -> Draw:
    """Draws data and priors side by side: over many states above, at one state below."""
    rows = (
        ("over many states", samples.data, samples.priors),
        ("at one state", samples.data_near, samples.priors_near),
    )
    columns = 1 + len(samples.priors)

    def draw(theme: Theme) -> Figure:
        figure, axes = new_figure(3.3 * columns, 6.0, 2, columns)
        for row, (where, data, priors) in enumerate(rows):
            panels = axes[row * columns : (row + 1) * columns]
            explained = draw_clouds(panels, theme, data, priors, {"color": theme.muted}).explained
            titles = ["the data", *(f"{name} prior" for name in priors)]
            for panel, title in zip(panels, titles, strict=True):
                panel.set_title(f"{title}, {where}", fontsize=9.5)
                panel.set_xlabel(f"component 1 ({explained[0]:.0%} of the variance)", fontsize=8)
            panels[0].set_ylabel(f"component 2 ({explained[1]:.0%})", fontsize=8)
        return figure

    return draw


def draw_clouds(
    panels: Sequence[Axes],
    theme: Theme,
    data: NDArray[np.floating],
    priors: Mapping[str, NDArray[np.floating]],
    look: Mapping[str, Any],
) -> Projection:
    """Draws the data's latents, and each prior's over them, all (M, Z), in a panel each.

    The axes are made from the data alone, so that a prior that misses a mode shows it.

    Args:
        panels: One for the data and one for each prior.
        theme: Of the figure.
        data: The data's latents.
        priors: Samples of each prior.
        look: Of the data's points, as `Axes.scatter` takes it.
    """
    project = principal_components(data)
    clouds = [project(data), *map(project, priors.values())]
    low, high = np.quantile(np.concatenate(clouds), [0.002, 0.998], axis=0)
    margin = 0.06 * np.maximum(high - low, 1e-6)
    for place, (panel, cloud) in enumerate(zip(panels, clouds, strict=True)):
        if place:
            panel.scatter(clouds[0][:, 0], clouds[0][:, 1], s=5, color=theme.wall, linewidths=0)
            look = {"color": theme.colour(place - 1)}
        panel.scatter(cloud[:, 0], cloud[:, 1], **{"alpha": 0.6, **look}, s=6, linewidths=0)
        panel.set_xlim(low[0] - margin[0], high[0] + margin[0])
        panel.set_ylim(low[1] - margin[1], high[1] + margin[1])
    return project
