"""The reverse diffusion loop (Algorithm 1, lines 5-9) over rows of latents: what any way to run it
has in common, and the plain one, step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.diffusion.fast.graphs import LoopGraphs
from ldcq.diffusion.fast.split import Condition, FrozenDenoiser, Nulled
from ldcq.diffusion.sampling_options import ResolvedOptions, plan_steps
from ldcq.randomness import BlockNoise, noise_source


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `end` of one draw: `candidates` for each of its states.

    Attributes:
        first_state: Row of a condition that is the draw's first state.
        seed: The draw's.
    """

    first_state: int
    candidates: int
    start: int
    end: int
    seed: int


class ReverseLoop(Protocol):
    """From states to latents, both standardised."""

    def condition(
        self, states: Tensor, goals: Tensor | None = None, nulled: Nulled = "both"
    ) -> Condition:
        """See `FrozenDenoiser.condition`."""
        ...

    def __call__(
        self, condition: Condition, rows: Sequence[Rows], options: ResolvedOptions
    ) -> Tensor:
        """Algorithm 1, lines 5-9.

        Args:
            condition: Of some states.
            rows: Stretches of rows, each of one draw.
            options: How to sample.

        Returns:
            Latents of the rows, one stretch after the other, (R, Z).
        """
        ...


class StepwiseLoop:
    """Asks a denoiser at every step; on a GPU all steps are one captured graph.

    Args:
        denoiser: From `fused.freeze`.
        alpha_bar: The schedule, (T + 1,).
        latent_dim: Z.
        device: Of the denoiser.
        clip: Bound of z0_hat, in standardised latents; None: unbounded.
        capture: On a GPU, run the loop as captured graphs.
    """

    def __init__(
        self,
        denoiser: FrozenDenoiser,
        alpha_bar: NDArray[np.float64],
        latent_dim: int,
        device: torch.device,
        clip: float | None,
        capture: bool = True,
    ) -> None:
        self._denoiser, self._alpha_bar, self._clip = denoiser, alpha_bar, clip
        self._latent_dim, self._device = latent_dim, device
        captured = capture and device.type == "cuda"
        self._graphs = LoopGraphs(self._loop, self._draws) if captured else None

    def condition(
        self, states: Tensor, goals: Tensor | None = None, nulled: Nulled = "both"
    ) -> Condition:
        """The part of every block that states (N, S) and goals (N, G) make, once per state; see
        `ReverseLoop`.
        """
        return self._denoiser.condition(states, goals, nulled)

    def __call__(
        self, condition: Condition, rows: Sequence[Rows], options: ResolvedOptions
    ) -> Tensor:
        """See `ReverseLoop`."""
        state = torch.cat(
            [
                each.first_state
                + torch.arange(each.start, each.end, device=self._device) // each.candidates
                for each in rows
            ]
        )
        sources = [
            noise_source(each.seed, each.start, each.end - each.start, self._device)
            for each in rows
        ]
        noise = BlockNoise(sources, self._latent_dim, self._device)
        repeated = tuple(noise.pad(part.index_select(0, state)) for part in condition)
        prepared = self._denoiser.prepare(repeated)
        if self._graphs is None:
            latent = self._loop(prepared, noise.draw, options)
        else:
            latent = self._graphs(prepared, noise, options)
        return latent[: noise.rows]

    def _loop(
        self, condition: Condition, draw: Callable[[], Tensor], options: ResolvedOptions
    ) -> Tensor:
        """Lines 5-9 for one block: standardised latents, (R, Z).

        Args:
            condition: From `prepare`, of R rows.
            draw: Gives N(0, I), (R, Z), for every use of noise; left as it is.
            options: How to sample.
        """
        latent = draw().mul(options.temperature)
        before = latent
        for step in plan_steps(options, self._alpha_bar):
            clean = self._denoiser.predict(latent, condition, step.time, options.guidance)
            if self._clip is not None:
                clean.clamp_(-self._clip, self._clip)
            latent.mul_(step.latent).add_(clean, alpha=step.clean)
            if step.previous:
                latent.add_(before, alpha=step.previous)
            scale = step.noise * options.temperature
            if scale:
                latent.add_(draw(), alpha=scale)
            before = clean
        return latent

    def _draws(self, options: ResolvedOptions) -> int:
        """How often the loop draws noise."""
        steps = plan_steps(options, self._alpha_bar)
        return 1 + sum(step.noise * options.temperature != 0 for step in steps)
