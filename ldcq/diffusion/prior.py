"""The latent diffusion prior (section 4.1, A.2.2, Table 6): its objective, and the way into its
sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from ldcq.config import Config, ConfigError, PriorConfig, SamplingConfig
from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast.fastest import fastest_loop
from ldcq.diffusion.options import DiffusionOptions
from ldcq.diffusion.sampler import DiffusionSampler
from ldcq.diffusion.sampling_options import resolve_options
from ldcq.diffusion.schedule import alpha_bars, min_snr_weights
from ldcq.latent_prior import OptionError
from ldcq.nn.model import Dimensions
from ldcq.prior import Batch, Prior


class DiffusionPrior(Prior):
    """p_psi(z | s), or p_psi(z | s, g) with goals (section 4.3), as a diffusion model over
    standardised latents.

    Raises:
        ConfigError: `prior.options.diffusion` are not its options.
        OptionError: `prior.sampling` does not fit them.
    """

    Options = DiffusionOptions
    options: DiffusionOptions
    takes_goals: ClassVar[bool] = True
    _snr_weights: Tensor
    _signal: Tensor
    _noise: Tensor

    def __init__(self, dimensions: Dimensions, config: PriorConfig) -> None:
        super().__init__(dimensions, config)
        options, goals = self.options, dimensions.goal > 0
        resolve_options(config.sampling, SamplingConfig(), options.steps, goals)
        self.denoiser = Denoiser(
            dimensions.state,
            dimensions.latent,
            options.blocks,
            options.condition_dim,
            options.time_dim,
            dimensions.goal,
            options.octaves,
        )
        self.alpha_bar = alpha_bars(options.schedule, options.steps)
        weights = min_snr_weights(self.alpha_bar, options.min_snr_gamma)
        for name, values in (
            ("_snr_weights", weights),
            ("_signal", np.sqrt(self.alpha_bar[1:])),
            ("_noise", np.sqrt(1 - self.alpha_bar[1:])),
        ):
            # A function of the configuration, so not published: only the schedule's name and T are.
            tensor = torch.from_numpy(values).float()
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def check(cls, config: Config) -> None:
        """See `Prior.check`: nobody may ask for more steps than were trained, or for another option
        of sampling that there is not.
        """
        super().check(config)
        steps = DiffusionOptions.of(config.prior).steps
        for section in ("prior", "critic", "actor"):
            try:
                given = getattr(config, section).sampling
                resolve_options(given, config.prior.sampling, steps, config.prior.goal_conditioned)
            except OptionError as error:
                raise ConfigError(f"{section}.sampling.{error}") from error

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Eq. 5: E over t, tau, z_0 ~ q and z_t of min{SNR(t), gamma} ||z_0 - mu(z_t, s, t)||^2.

        The squared norm is averaged over the latent's dimensions, which only scales it. The state
        is nulled with `drop_probability`, and apart from it the goal with `goal_drop_probability`,
        which trains the unconditional models of classifier-free guidance along.

        Args:
            batch: B training pairs.
            generator: Draws z_0, t, the noise and which states and goals are nulled.

        Returns:
            A scalar.
        """
        last, drop = self.options.steps, self.options.drop_probability
        time = batch.random(lambda n: torch.randint(1, last + 1, (n,), generator=generator))
        keep = batch.random(lambda n: torch.rand(n, generator=generator) >= drop)
        keep_goal = None
        if batch.goals is not None:
            drop_goal = self.config.goal_drop_probability
            keep_goal = batch.random(lambda n: torch.rand(n, generator=generator) >= drop_goal)
        errors = self._errors(batch, time, keep, keep_goal, generator)
        return (self._snr_weights[time - 1] * errors).mean()

    def validate(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Eq. 5 and the plain squared error with state and goal given, over times spread evenly.

        Args:
            batch: Held-out pairs.
            generator: Draws z_0 and the noise.

        Returns:
            `loss` and `error`, scalars; with goals also `error_without_goal`, in the same sample.
        """
        count, device = len(batch.states), batch.states.device
        time = torch.arange(count, device=device) % self.options.steps + 1
        all_of_them, random_numbers = torch.ones(count, device=device), generator.get_state()
        errors = self._errors(batch, time, all_of_them, None, generator)
        weighted = (self._snr_weights[time - 1] * errors).mean()
        metrics = {"loss": weighted, "error": errors.mean()}
        if batch.goals is not None:
            generator.set_state(random_numbers)
            none_of_them = torch.zeros_like(all_of_them)
            blind = self._errors(batch, time, all_of_them, none_of_them, generator)
            metrics["error_without_goal"] = blind.mean()
        return metrics

    def sampler(self) -> DiffusionSampler:
        """The model as it is now: its time tables are made here, once."""
        return DiffusionSampler(
            fastest_loop(self.denoiser, self.alpha_bar, self.options.clip_sample),
            self.options.steps,
            self.config.sampling,
            self.state_normaliser,
            self.latent_normaliser,
            goal_normaliser=self.goal_normaliser,
        )

    def _errors(
        self,
        batch: Batch,
        time: Tensor,
        keep: Tensor,
        keep_goal: Tensor | None,
        generator: torch.Generator,
    ) -> Tensor:
        """||z_0 - mu(z_t, s, g, t)||^2 / Z of each pair, (B,)."""
        clean = self.latent_normaliser(batch.draw(generator))
        width = clean.shape[1]
        noise = batch.random(lambda n: torch.randn(n, width, generator=generator))
        row = time - 1
        noisy = self._signal[row, None] * clean + self._noise[row, None] * noise
        states = self.state_normaliser(batch.states)
        goals = None
        if self.goal_normaliser is not None:
            assert batch.goals is not None, "this prior has goals"
            goals = self.goal_normaliser(batch.goals)
            keep_goal = None if keep_goal is None else keep_goal.to(clean.dtype)
        predicted = self.denoiser(noisy, states, time, keep.to(clean.dtype), goals, keep_goal)
        return cast(Tensor, (clean - predicted).square().mean(dim=1))
