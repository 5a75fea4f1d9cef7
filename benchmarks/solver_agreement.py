"""Whether a fast solver samples what the slow one does: the modes, what lies between them, and the
critic's maxima.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.solver_subject import Setting, Subject, walk_coverage
from benchmarks.support import Junctions, Support, exit_shares

Array = NDArray[Any]

JUNCTIONS, PER_JUNCTION = 32, 200
Q_STATES = 250
LIKELY = 0.1
"""Share of the reference's samples above which a direction counts as a mode."""

REFERENCE_SEED = 99
"""Of the samples that others are compared with: the reference's own row shows what chance does."""


class Agreement:
    """Compares settings with a reference, DDPM's T steps, and with the data; `candidates` are the
    values of n that `values` will be asked for.

    Raises:
        ValueError: No window is held out.
    """

    def __init__(self, subject: Subject, reference: Setting, candidates: Sequence[int]) -> None:
        self._subject, self._reference = subject, reference
        self._support = Support(subject.table)
        rows = self._support.held_out
        self._states = subject.table.state[rows[:: max(1, len(rows) // Q_STATES)]]
        self._best = {n: self._maxima(reference, n, REFERENCE_SEED)[0] for n in candidates}
        layout = subject.task.layout
        self._junctions = Junctions.find(subject.table, layout, JUNCTIONS) if layout else None
        self._exits = self._exit_shares(reference, REFERENCE_SEED)

    def modes(self, setting: Setting) -> dict[str, float]:
        """Coverage of the walk's two modes and of the ways out of a maze's junctions."""
        gap, right = walk_coverage(self._subject.walk, self._subject.options(setting))
        columns = {"walk_gap": gap, "walk_right": right}
        shares = self._exit_shares(setting, seed=0)
        if shares is not None and self._exits is not None:
            kept = shares >= 0.5 * self._exits
            columns["exits_covered"] = float(kept[self._exits > LIKELY].mean())
            columns["exits_moved"] = float(np.abs(shares - self._exits).sum(axis=1).mean() / 2)
        return columns

    def values(self, setting: Setting, candidates: int) -> dict[str, float]:
        """Agreement of max_z Q over n candidates, in units of its spread over states, and what is
        outside the data's support among all candidates and among the critic's choices.
        """
        best, outside, chosen_outside = self._maxima(setting, candidates, seed=0)
        expected = self._best[candidates]
        difference = (best - expected) / expected.std()
        return {
            "q_error": float(np.abs(difference).mean()),
            "q_bias": float(difference.mean()),
            "q_rank": float(np.corrcoef(_ranks(best), _ranks(expected))[0, 1]),
            "outside": float(outside.mean()),
            "outside_chosen": float(chosen_outside.mean()),
        }

    def _maxima(self, setting: Setting, candidates: int, seed: int) -> tuple[Array, Array, Array]:
        """max_z Q (N,), and whether candidates (N, n) and the maxima (N,) are out of support."""
        critic = self._subject.models.critic
        assert critic is not None
        latents = self._subject.draw(setting, self._states, candidates, seed)
        device = self._subject.models.decoder.state_normaliser.mean.device
        with torch.no_grad():
            inputs = (torch.from_numpy(np.array(part)) for part in (self._states, latents))
            values = critic.score(*(part.to(device) for part in inputs)).cpu().numpy()
        outside = self._support.outside(self._states, latents)
        chosen = values.argmax(axis=1)
        return values.max(axis=1), outside, outside[np.arange(len(chosen)), chosen]

    def _exit_shares(self, setting: Setting, seed: int) -> Array | None:
        junctions, layout = self._junctions, self._subject.task.layout
        if junctions is None or layout is None or not len(junctions.rows):
            return None
        latents = self._subject.draw(setting, junctions.states, PER_JUNCTION, seed)
        _, rows = self._support.nearest(junctions.states, latents)
        return exit_shares(self._subject.table, layout, junctions.states, rows)


def _ranks(values: Array) -> Array:
    return np.argsort(np.argsort(values))
