"""What a critic promises against what its policy earns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from services.actor.diagnosis import Rollouts
from services.actor.report.theme import Draw, Theme, hide, new_figure

COLUMNS = 4


def calibration_figure(policies: Mapping[str, Rollouts]) -> Draw:
    """Draws promised over earned return of every choice, one panel per policy."""

    def draw(theme: Theme) -> Figure:
        columns = min(COLUMNS, len(policies))
        rows = -(-len(policies) // columns)
        figure, axes = new_figure(3.0 * columns, 3.0 * rows, rows, columns)
        for panel, (title, found) in zip(axes, policies.items(), strict=False):
            ends = np.concatenate([found.promised, found.earned, [0.0]])
            panel.plot([ends.min(), ends.max()], [ends.min(), ends.max()], color=theme.muted)
            for chosen, index, label in ((~found.first, 3, "later"), (found.first, 0, "first")):
                points = found.earned[chosen], found.promised[chosen]
                panel.scatter(*points, s=9, color=theme.colour(index), alpha=0.6, label=label)
            panel.set_title(f"{title}\npromised / earned {found.ratio:.2f}", fontsize=8.5)
            panel.set_xlabel("earned, discounted")
            panel.set_ylabel("promised")
        axes[0].legend(title="choice of the episode", title_fontsize=8)
        hide(axes[len(policies) :])
        return figure

    return draw
