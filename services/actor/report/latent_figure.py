"""Latents on their two main axes: what the data has, and what each prior draws (sections 5.1 to
5.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from services.actor.report.theme import Draw, Theme, new_figure

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Projection:
    """The first two principal components of a set of latents.

    Attributes:
        centre: Shape (Z,).
        axes: Unit vectors, shape (2, Z); zero where Z is 1.
        explained: Share of the variance on each, shape (2,).
    """

    centre: Floats
    axes: Floats
    explained: Floats

    def __call__(self, latents: NDArray[np.floating]) -> Floats:
        """Latents (M, Z) to points (M, 2)."""
        points: Floats = (np.asarray(latents, dtype=np.float64) - self.centre) @ self.axes.T
        return points


@dataclass(frozen=True)
class LatentSamples:
    """What the figure compares; every array is (M, Z).

    Attributes:
        data: Latents of the data, over many states.
        priors: Prior to its samples, one at each of the same states.
        data_near: Latents of the data at the states nearest to one state.
        priors_near: Prior to its samples at that state.
    """

    data: NDArray[np.floating]
    priors: Mapping[str, NDArray[np.floating]]
    data_near: NDArray[np.floating]
    priors_near: Mapping[str, NDArray[np.floating]]


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
    """Draws data and priors side by side on the same axes: over many states above, at one state
    below.

    Each row has its own axes, made from the data alone, so that a prior that misses a mode shows
    it.
    """
    rows = (
        ("over many states", samples.data, samples.priors),
        ("at one state", samples.data_near, samples.priors_near),
    )

    def draw(theme: Theme) -> Figure:
        columns = 1 + len(samples.priors)
        figure, axes = new_figure(3.3 * columns, 6.0, 2, columns)
        for row, (where, data, priors) in enumerate(rows):
            panels = axes[row * columns : (row + 1) * columns]
            _row(panels, theme, where, data, priors)
        return figure

    return draw


def _row(
    panels: list[Axes],
    theme: Theme,
    where: str,
    data: NDArray[np.floating],
    priors: Mapping[str, NDArray[np.floating]],
) -> None:
    project = principal_components(data)
    points = {"data": project(data), **{name: project(latents) for name, latents in priors.items()}}
    everything = np.concatenate(list(points.values()))
    low, high = np.quantile(everything, [0.002, 0.998], axis=0)
    margin = 0.06 * np.maximum(high - low, 1e-6)
    for place, (panel, (name, cloud)) in enumerate(zip(panels, points.items(), strict=True)):
        if place:
            data_points = points["data"]
            panel.scatter(
                data_points[:, 0],
                data_points[:, 1],
                s=5,
                color=theme.wall,
                linewidths=0,
                label="data",
            )
        colour = theme.colour(place - 1) if place else theme.muted
        panel.scatter(cloud[:, 0], cloud[:, 1], s=6, color=colour, alpha=0.6, linewidths=0)
        title = "the data" if name == "data" else f"{name} prior"
        panel.set_title(f"{title}, {where}", fontsize=9.5)
        panel.set_xlim(low[0] - margin[0], high[0] + margin[0])
        panel.set_ylim(low[1] - margin[1], high[1] + margin[1])
        panel.set_xlabel(f"component 1 ({project.explained[0]:.0%} of the variance)", fontsize=8)
        if place == 0:
            panel.set_ylabel(f"component 2 ({project.explained[1]:.0%})", fontsize=8)
