"""The reverse diffusion loop (Algorithm 1, lines 5-9): options resolved, one block of rows denoised
at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import SamplingConfig
from ldcq.diffusion.fast.graphs import LoopGraphs
from ldcq.diffusion.fast.split import Condition, FrozenDenoiser, Nulled
from ldcq.diffusion.solvers import SOLVERS, Step
from ldcq.latent_prior import Description, Draw, OptionError
from ldcq.nn.normaliser import Normaliser
from ldcq.prior import JoiningSampler
from ldcq.randomness import BlockNoise, block_generator, block_ranges, block_rows

MAX_EXTRA_STEPS = 1000


class ResolvedOptions(SamplingConfig):
    """Sampling options with nothing left open."""

    solver: str
    steps: int
    guidance: float
    nulled: Nulled
    extra_steps: int
    temperature: float


def resolve_options(
    options: SamplingConfig, defaults: SamplingConfig, training_steps: int, goals: bool = False
) -> ResolvedOptions:
    """Fills what a request leaves out from the model's defaults, and the rest from the paper's.

    Args:
        options: The request's.
        defaults: The model's.
        training_steps: T.
        goals: Whether the model has goals; guidance then nulls the goal, unless told otherwise.

    Raises:
        OptionError: Unknown solver, more steps than T, a number out of range, a goal to null where
            there is none.
    """
    paper: dict[str, object] = {
        "solver": "ddpm",
        "steps": training_steps,
        "guidance": 1.0,
        "nulled": "goal" if goals else "state",
        "extra_steps": 0,
        "temperature": 1.0,
    }
    chosen = paper | defaults.model_dump(exclude_none=True) | options.model_dump(exclude_none=True)
    # Not validated here: below, messages say what this model takes.
    resolved = ResolvedOptions.model_construct(None, **chosen)
    if resolved.solver not in SOLVERS:
        raise OptionError("solver", resolved.solver, f"one of {', '.join(SOLVERS)}")
    if not 1 <= resolved.steps <= training_steps:
        raise OptionError("steps", resolved.steps, f"1 to {training_steps}, the steps of training")
    if resolved.nulled not in (get_args(Nulled) if goals else ("state",)):
        expected = ", ".join(get_args(Nulled)) if goals else "state: this prior has no goals"
        raise OptionError("nulled", resolved.nulled, expected)
    if not 0 <= resolved.extra_steps <= MAX_EXTRA_STEPS:
        raise OptionError("extra_steps", resolved.extra_steps, f"0 to {MAX_EXTRA_STEPS}")
    # In single precision, as they arrive over gRPC: here and there they give the same latents.
    weights = {
        field: float(np.float32(getattr(resolved, field))) for field in ("guidance", "temperature")
    }
    for field, value in weights.items():
        if not (math.isfinite(value) and value >= 0):
            raise OptionError(field, value, "a finite number, at least 0")
    return resolved.model_copy(update=weights)


def plan_steps(options: ResolvedOptions, alpha_bar: NDArray[np.float64]) -> tuple[Step, ...]:
    """The solver's steps and after them Diffusion-X's, which take the sample for a z_1 once more
    (supplement E).

    At t = 1 the mean of Algorithm 1 is z0_hat itself and no noise is added.
    """
    extra = Step(time=1, latent=0.0, clean=1.0)
    return SOLVERS[options.solver](alpha_bar, options.steps) + (extra,) * options.extra_steps


class DiffusionSampler(JoiningSampler):
    """A diffusion prior with frozen weights.

    Args:
        denoiser: From `fused.freeze`.
        alpha_bar: The schedule, (T + 1,).
        defaults: The model's sampling options.
        state_normaliser: Of raw states.
        latent_normaliser: Of raw latents.
        clip_sample: Bound of z0_hat, in standardised latents; None: unbounded.
        capture: On a GPU, run the loop as captured graphs.
        goal_normaliser: Of raw goals, for a model with goals.
    """

    def __init__(
        self,
        denoiser: FrozenDenoiser,
        alpha_bar: NDArray[np.float64],
        defaults: SamplingConfig,
        state_normaliser: Normaliser,
        latent_normaliser: Normaliser,
        clip_sample: float | None,
        capture: bool = True,
        goal_normaliser: Normaliser | None = None,
    ) -> None:
        self._denoiser = denoiser
        self._alpha_bar = alpha_bar
        self._defaults = defaults
        self._state_normaliser = state_normaliser
        self._latent_normaliser = latent_normaliser
        self._goal_normaliser = goal_normaliser
        self._clip = clip_sample
        on_gpu = latent_normaliser.mean.device.type == "cuda"
        self._graphs = LoopGraphs(self._loop, self._draws) if capture and on_gpu else None

    def describe(self) -> Description:
        """Dimensions, T, the solvers, and the defaults with nothing left open."""
        goals = self._goal_normaliser
        return Description(
            state_dim=len(self._state_normaliser.mean),
            latent_dim=len(self._latent_normaliser.mean),
            goal_dim=0 if goals is None else len(goals.mean),
            training_steps=len(self._alpha_bar) - 1,
            solvers=tuple(SOLVERS),
            defaults=self.resolve(SamplingConfig()),
        )

    def resolve(self, options: SamplingConfig) -> ResolvedOptions:
        """The options with the model's defaults, and else the paper's choices, where they are open.

        Raises:
            OptionError: As `resolve_options`.
        """
        steps, goals = len(self._alpha_bar) - 1, self._goal_normaliser is not None
        return resolve_options(options, self._defaults, steps, goals)

    def passes(self, options: SamplingConfig) -> int:
        """Denoising steps, Diffusion-X's included."""
        resolved = _resolved(options)
        return resolved.steps + resolved.extra_steps

    def blocks(self, draw: Draw) -> Iterator[Tensor]:
        """Algorithm 1, lines 5-9. See `ldcq.prior.Sampler`."""
        parts = self._condition(draw)
        device = parts[0].device
        for block, (start, end) in enumerate(block_ranges(draw.rows, block_rows(device))):
            condition = _rows_of(parts, draw.candidates, start, end)
            noise = self._noise([(end - start, block_generator(draw.seed, block, device))])
            yield self._denoise(condition, noise, _resolved(draw.options))

    def join(self, draws: Sequence[Draw]) -> Tensor:
        """Small draws as one block. See `ldcq.prior.JoiningSampler`."""
        conditions, sources = [], []
        for draw in draws:
            parts = self._condition(draw)
            conditions.append(_rows_of(parts, draw.candidates, 0, draw.rows))
            sources.append((draw.rows, block_generator(draw.seed, 0, parts[0].device)))
        condition = tuple(torch.cat(parts) for parts in zip(*conditions, strict=True))
        return self._denoise(condition, self._noise(sources), _resolved(draws[0].options))

    def _condition(self, draw: Draw) -> Condition:
        """The states' and goals' part of every block, once per state."""
        states, options = self._state_normaliser(self._tensor(draw.states)), _resolved(draw.options)
        if self._goal_normaliser is None:
            return self._denoiser.condition(states)
        assert draw.goals is not None, "this prior has goals"
        # Unguided there is no other half, and nothing that it keeps.
        nulled = "both" if options.guidance == 1 else options.nulled
        goals = self._goal_normaliser(self._tensor(draw.goals))
        return self._denoiser.condition(states, goals, nulled)

    def _tensor(self, values: NDArray[np.float32]) -> Tensor:
        # Copied: a decoded array is a read-only view of its message.
        return torch.tensor(values, dtype=torch.float32, device=self._latent_normaliser.mean.device)

    def _noise(self, sources: Sequence[tuple[int, torch.Generator]]) -> BlockNoise:
        mean = self._latent_normaliser.mean
        return BlockNoise(sources, len(mean), mean.device)

    def _denoise(self, condition: Condition, noise: BlockNoise, options: ResolvedOptions) -> Tensor:
        """One block from noise to raw latents, (noise.rows, Z)."""
        condition = self._denoiser.prepare(tuple(noise.pad(part) for part in condition))
        if self._graphs is None:
            latent = self._loop(condition, noise.draw, options)
        else:
            latent = self._graphs(condition, noise, options)
        return self._latent_normaliser.inverse(latent[: noise.rows])

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


def _rows_of(parts: Condition, candidates: int, start: int, end: int) -> Condition:
    """The states' parts for rows `start` to `end` of a call."""
    state = torch.arange(start, end, device=parts[0].device) // candidates
    return tuple(part.index_select(0, state) for part in parts)


def _resolved(options: SamplingConfig) -> ResolvedOptions:
    assert isinstance(options, ResolvedOptions), "options are resolved where a draw enters"
    return options
