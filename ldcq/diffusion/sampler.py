"""A diffusion prior as it is drawn from: raw states in, raw latents out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import SamplingConfig
from ldcq.diffusion.fast.split import Condition
from ldcq.diffusion.reverse_loop import ReverseLoop, Rows
from ldcq.diffusion.sampling_options import ResolvedOptions, resolve_options
from ldcq.diffusion.solvers import SOLVERS
from ldcq.latent_prior import Description, Draw
from ldcq.nn.normaliser import Normaliser
from ldcq.prior import JoiningSampler
from ldcq.randomness import block_ranges, block_rows


class DiffusionSampler(JoiningSampler):
    """A diffusion prior with frozen weights.

    Args:
        loop: The reverse loop over the model.
        training_steps: T.
        defaults: The model's sampling options.
        state_normaliser: Of raw states.
        latent_normaliser: Of raw latents.
        goal_normaliser: Of raw goals, for a model with goals.
    """

    def __init__(
        self,
        loop: ReverseLoop,
        training_steps: int,
        defaults: SamplingConfig,
        state_normaliser: Normaliser,
        latent_normaliser: Normaliser,
        goal_normaliser: Normaliser | None = None,
    ) -> None:
        self._loop = loop
        self._training_steps = training_steps
        self._defaults = defaults
        self._state_normaliser = state_normaliser
        self._latent_normaliser = latent_normaliser
        self._goal_normaliser = goal_normaliser

    def describe(self) -> Description:
        """Dimensions, T, the solvers, and the defaults with nothing left open."""
        goals = self._goal_normaliser
        return Description(
            state_dim=len(self._state_normaliser.mean),
            latent_dim=len(self._latent_normaliser.mean),
            goal_dim=0 if goals is None else len(goals.mean),
            training_steps=self._training_steps,
            solvers=tuple(SOLVERS),
            defaults=self.resolve(SamplingConfig()),
        )

    def resolve(self, options: SamplingConfig) -> ResolvedOptions:
        """The options with the model's defaults, and else the paper's choices, where they are open.

        Raises:
            OptionError: As `resolve_options`.
        """
        goals = self._goal_normaliser is not None
        return resolve_options(options, self._defaults, self._training_steps, goals)

    def passes(self, options: SamplingConfig) -> int:
        """Denoising steps, Diffusion-X's included."""
        resolved = _resolved(options)
        return resolved.steps + resolved.extra_steps

    def blocks(self, draw: Draw) -> Iterator[Tensor]:
        """Algorithm 1, lines 5-9. See `ldcq.prior.Sampler`."""
        condition, options = self._condition(draw), _resolved(draw.options)
        for start, end in block_ranges(draw.rows, block_rows(condition[0].device)):
            rows = Rows(0, draw.candidates, start, end, draw.seed)
            yield self._latents(condition, [rows], options)

    def join(self, draws: Sequence[Draw]) -> Tensor:
        """Small draws as one block. See `ldcq.prior.JoiningSampler`."""
        conditions = [self._condition(draw) for draw in draws]
        condition = tuple(torch.cat(parts) for parts in zip(*conditions, strict=True))
        firsts = itertools.accumulate((len(draw.states) for draw in draws), initial=0)
        rows = [
            Rows(first, draw.candidates, 0, draw.rows, draw.seed)
            for first, draw in zip(firsts, draws, strict=False)
        ]
        return self._latents(condition, rows, _resolved(draws[0].options))

    def _condition(self, draw: Draw) -> Condition:
        """The states' and goals' part of every block, once per state."""
        states, options = self._state_normaliser(self._tensor(draw.states)), _resolved(draw.options)
        if self._goal_normaliser is None:
            return self._loop.condition(states)
        assert draw.goals is not None, "this prior has goals"
        # Unguided there is no other half, and nothing that it keeps.
        nulled = "both" if options.guidance == 1 else options.nulled
        goals = self._goal_normaliser(self._tensor(draw.goals))
        return self._loop.condition(states, goals, nulled)

    def _tensor(self, values: NDArray[np.float32]) -> Tensor:
        # Copied: a decoded array is a read-only view of its message.
        return torch.tensor(values, dtype=torch.float32, device=self._latent_normaliser.mean.device)

    def _latents(
        self, condition: Condition, rows: Sequence[Rows], options: ResolvedOptions
    ) -> Tensor:
        return self._latent_normaliser.inverse(self._loop(condition, rows, options))


def _resolved(options: SamplingConfig) -> ResolvedOptions:
    assert isinstance(options, ResolvedOptions), "options are resolved where a draw enters"
    return options
