"""Trains the beta-VAE on windows (Eq. 4, Table 5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from common.config import Config
from common.data import Windows, state_statistics
from common.data.episodes import Integer
from common.training import BatchSampler, generator, learning_rate_schedule, ranks
from services.vae.losses import decoded_steps, kl_divergence, negative_elbo
from services.vae.model import Architecture, Vae

VALIDATION_WINDOWS = 1024
"""Held-out windows in a validation loss, spread evenly over all of them."""


class Evidence(NamedTuple):
    """The two terms of Eq. 4 for a batch.

    Attributes:
        log_likelihood: log pi(a_t | s_t, z) of K steps of each window, shape (B, K).
        kl: KL(q || p_omega), shape (B,).
    """

    log_likelihood: Tensor
    kl: Tensor


class VaeLearner:
    """The `Learner` of the stage: Adam on Eq. 4 over shuffled training windows.

    All randomness after the initialisation is a function of the seed and the step, so that there is
    no generator whose state would have to be saved.

    Attributes:
        vae: What is trained.
        total: Updates in all.
    """

    def __init__(self, config: Config, windows: Windows, device: torch.device) -> None:
        """Initialises the networks from torch's global random state.

        Args:
            config: The resolved configuration.
            windows: Training and validation windows.
            device: Where to compute.
        """
        self._config, self._windows, self._device = config, windows, device
        self._ranks = ranks()
        architecture = Architecture.from_config(config, windows.episodes.spaces)
        self.vae = Vae(architecture, state_statistics(windows)).to(device)
        self._training = windows.training
        self._validation = _spread(windows.held_out, VALIDATION_WINDOWS)
        settings = config.vae
        self._sampler = BatchSampler(
            len(self._training), settings.batch_size, config.seed, "vae", "batch"
        )
        self.total = settings.epochs * self._sampler.steps_per_epoch
        # The fused kernel: the networks are many small tensors, and a loop over them would show.
        self._optimiser = torch.optim.Adam(
            self.vae.parameters(), lr=settings.learning_rate, fused=True
        )
        self._schedule = learning_rate_schedule(self._optimiser, settings.schedule, self.total)

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        """One step of Adam on one batch.

        Returns:
            loss (negative ELBO / H), log_likelihood (per decoded step), kl (nats), learning_rate.
        """
        rows = self._training[self._sampler.indices(step).numpy()]
        random = generator(self._config.seed, "vae", "update", step)
        share = self._ranks.share(len(rows))
        evidence = self.evidence(rows, random, self._config.vae.decoded_steps, share)
        # What is averaged over a share, weighted by it, adds up to the average over the batch.
        weight = len(rows[share]) / len(rows)
        metrics = {k: weight * v for k, v in _metrics(self._loss(evidence), evidence).items()}
        self._optimiser.zero_grad(set_to_none=True)
        metrics["loss"].backward()  # type: ignore[no-untyped-call]
        sums = self._ranks.sum_gradients(self.vae.parameters(), *metrics.values())
        rate = float(self._optimiser.param_groups[0]["lr"])
        self._optimiser.step()
        self._schedule.step()
        detached = {name: value.detach() for name, value in zip(metrics, sums, strict=True)}
        return {**detached, "learning_rate": rate}

    @torch.no_grad()
    def validate(self) -> Mapping[str, Tensor | float]:
        """The same metrics over held-out windows, all steps decoded; empty without such windows."""
        if not len(self._validation):
            return {}
        random = generator(self._config.seed, "vae", "validation")
        evidence = self.evidence(self._validation, random, None)
        return _metrics(self._loss(evidence), evidence)

    def evidence(
        self,
        rows: Integer,
        random: torch.Generator,
        decoded: int | None,
        share: slice = slice(None),
    ) -> Evidence:
        """Both terms of Eq. 4 with one sample of z per window, reparameterised.

        Args:
            rows: Which windows.
            random: Draws z and the decoded steps.
            decoded: K, steps to decode; None for all.
            share: Which of the rows to look at; random numbers are drawn for all.
        """
        batch, rows = len(rows), rows[share]
        states = self.vae.state_normaliser(self._tensor(self._windows.states(rows)))
        actions = self._tensor(self._windows.actions(rows))
        posterior = self.vae.encode_standardised(states, actions)
        prior = self.vae.conditional_prior(states[:, 0])
        noise = torch.randn(batch, posterior.mean.shape[1], generator=random)[share]
        latents = posterior.sample(noise.to(self._device)).unsqueeze(1)
        steps = decoded_steps(batch, self._windows.horizon, decoded, random)
        if steps is not None:
            chosen = steps[share].to(self._device).unsqueeze(-1)
            states = states.take_along_dim(chosen, dim=1)
            actions = actions.take_along_dim(chosen, dim=1)
        latents = latents.expand(-1, states.shape[1], -1)
        return Evidence(
            self.vae.decoder.log_prob(states, latents, actions), kl_divergence(posterior, prior)
        )

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and schedule."""
        return {
            "vae": self.vae.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.vae.load_state_dict(state["vae"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])

    def _loss(self, evidence: Evidence) -> Tensor:
        beta = self._config.vae.beta
        return negative_elbo(evidence.log_likelihood, evidence.kl, beta, self._windows.horizon)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device)


def _metrics(loss: Tensor, evidence: Evidence) -> dict[str, Tensor]:
    return {
        "loss": loss,
        "log_likelihood": evidence.log_likelihood.detach().mean(),
        "kl": evidence.kl.detach().mean(),
    }


def _spread(rows: Integer, count: int) -> Integer:
    """At most `count` of the rows, evenly spread."""
    if len(rows) <= count:
        return rows
    return rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
