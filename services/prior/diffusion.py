"""The latent diffusion prior (section 4.1, A.2.2, Table 6): its objective, and the way into its
sampler.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

from common.config import DiffusionConfig, PriorConfig, SamplingConfig
from common.nn.normaliser import Normaliser
from common.nn.weights import load_weights
from services.prior.denoiser import Denoiser
from services.prior.fused import freeze
from services.prior.protocol import Batch, Description, Prior, Statistics
from services.prior.sampling import DiffusionSampler, resolve_options
from services.prior.schedule import alpha_bars, min_snr_weights
from services.prior.solvers import SOLVERS

if TYPE_CHECKING:
    from common.store import Artifact


class DiffusionPrior(Prior):
    """p_psi(z | s) as a diffusion model over standardised latents.

    Args:
        config: Network, schedule and training.
        sampling: Defaults of its sampler.
        state_normaliser: Of raw states (S,).
        latent_normaliser: Of raw latents (Z,).

    Raises:
        OptionError: The sampling defaults do not fit the model.
    """

    _snr_weights: Tensor
    _signal: Tensor
    _noise: Tensor

    def __init__(
        self,
        config: DiffusionConfig,
        sampling: SamplingConfig,
        state_normaliser: Normaliser,
        latent_normaliser: Normaliser,
    ) -> None:
        super().__init__()
        resolve_options(sampling, SamplingConfig(), config.steps)
        self.config = config
        self.sampling = sampling
        self.state_normaliser = state_normaliser
        self.latent_normaliser = latent_normaliser
        self.denoiser = Denoiser(
            len(state_normaliser.mean),
            len(latent_normaliser.mean),
            config.blocks,
            config.condition_dim,
            config.time_dim,
        )
        self.alpha_bar = alpha_bars(config.schedule, config.steps)
        weights = min_snr_weights(self.alpha_bar, config.min_snr_gamma)
        for name, values in (
            ("_snr_weights", weights),
            ("_signal", np.sqrt(self.alpha_bar[1:])),
            ("_noise", np.sqrt(1 - self.alpha_bar[1:])),
        ):
            # A function of the configuration, so not published: only the schedule's name and T are.
            tensor = torch.from_numpy(values).float()
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def create(cls, config: PriorConfig, statistics: Statistics) -> Self:
        """A new model. Raises OptionError where `prior.sampling` does not fit `prior.diffusion`."""
        return cls(
            config.diffusion,
            config.sampling,
            *statistics.normalisers(),
        )

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> Self:
        """The model as published."""
        meta = artifact.meta
        prior = cls(
            DiffusionConfig.model_validate(meta.details["diffusion"]),
            SamplingConfig.model_validate(meta.details["sampling"]),
            Normaliser.identity(meta.dimensions["state"]),
            Normaliser.identity(meta.dimensions["latent"]),
        )
        load_weights(prior, artifact.tensors)
        return prior

    def details(self) -> dict[str, JsonValue]:
        """Network, schedule, T and sampling defaults."""
        return {
            "diffusion": self.config.model_dump(mode="json"),
            "sampling": self.sampling.model_dump(mode="json"),
        }

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Eq. 5: E over t, tau, z_0 ~ q and z_t of min{SNR(t), gamma} ||z_0 - mu(z_t, s, t)||^2.

        The squared norm is averaged over the latent's dimensions, which only scales it. The state
        is nulled with `drop_probability`, which trains the unconditional model of classifier-free
        guidance along.

        Args:
            batch: B training pairs.
            generator: Draws z_0, t, the noise and which states are nulled.

        Returns:
            A scalar.
        """
        last, drop = self.config.steps, self.config.drop_probability
        time = batch.random(lambda n: torch.randint(1, last + 1, (n,), generator=generator))
        keep = batch.random(lambda n: torch.rand(n, generator=generator) >= drop)
        errors = self._errors(batch, time, keep, generator)
        return (self._snr_weights[time - 1] * errors).mean()

    def validate(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Eq. 5 and the plain squared error with the state given, over times spread evenly.

        Args:
            batch: Held-out pairs.
            generator: Draws z_0 and the noise.

        Returns:
            `loss` and `error`, scalars.
        """
        count, device = len(batch.states), batch.states.device
        time = torch.arange(count, device=device) % self.config.steps + 1
        errors = self._errors(batch, time, torch.ones(count, device=device), generator)
        weighted = (self._snr_weights[time - 1] * errors).mean()
        return {"loss": weighted, "error": errors.mean()}

    def describe(self) -> Description:
        """T, the solvers, and the defaults with nothing left open."""
        resolved = resolve_options(self.sampling, SamplingConfig(), self.config.steps)
        return Description(
            training_steps=self.config.steps,
            solvers=tuple(SOLVERS),
            defaults=SamplingConfig(**vars(resolved)),
        )

    def sampler(self) -> DiffusionSampler:
        """The model as it is now: its time tables are made here, once."""
        return DiffusionSampler(
            freeze(self.denoiser, self.config.steps),
            self.alpha_bar,
            self.sampling,
            self.state_normaliser,
            self.latent_normaliser,
            self.config.clip_sample,
        )

    def _errors(
        self, batch: Batch, time: Tensor, keep: Tensor, generator: torch.Generator
    ) -> Tensor:
        """||z_0 - mu(z_t, s, t)||^2 / Z of each pair, (B,)."""
        clean = self.latent_normaliser(batch.draw(generator))
        width = clean.shape[1]
        noise = batch.random(lambda n: torch.randn(n, width, generator=generator))
        row = time - 1
        noisy = self._signal[row, None] * clean + self._noise[row, None] * noise
        states = self.state_normaliser(batch.states)
        predicted = self.denoiser(noisy, states, time, keep.to(clean.dtype))
        return cast(Tensor, (clean - predicted).square().mean(dim=1))
