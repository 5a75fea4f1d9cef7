"""Trains the beta-VAE on windows (Eq. 4, Table 5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config
from ldcq.data.windows import Windows
from ldcq.learning.supervised import SupervisedLearner
from ldcq.vae.losses import decoded_steps, kl_divergence, negative_elbo
from ldcq.vae.low_level import policy_dimensions
from ldcq.vae.model import Vae


class Evidence(NamedTuple):
    """The two terms of Eq. 4 for a batch.

    Attributes:
        log_likelihood: log pi(a_t | s_t, z) of K steps of each window, shape (B, K).
        kl: KL(q || p_omega), shape (B,).
    """

    log_likelihood: Tensor
    kl: Tensor


class VaeLearner(SupervisedLearner):
    """Minimises the negative of Eq. 4 over windows.

    Attributes:
        vae: What is trained.
    """

    validation_rows = 1024

    def __init__(self, config: Config, windows: Windows, device: torch.device) -> None:
        """Initialises the networks from torch's global random state.

        Args:
            config: The resolved configuration.
            windows: Training and validation windows.
            device: Where to compute.
        """
        self.vae = Vae(policy_dimensions(windows, config.vae.latent_dim), config.vae)
        self.vae.fit_to(windows)
        super().__init__(self.vae.to(device), config.vae, windows, config.seed)
        self._beta, self._decoded_steps = config.vae.beta, config.vae.decoded_steps
        self._windows, self._device = windows, device

    def metrics(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Means over some windows, of which `vae.decoded_steps` steps are decoded.

        Args:
            rows: Windows.
            share: Which of them to look at.
            random: Draws z and the decoded steps.

        Returns:
            `loss`: the negative ELBO / H; `log_likelihood`: per decoded step; `kl`: in nats.
        """
        return self._metrics(self.evidence(rows, random, self._decoded_steps, share))

    def validation_metrics(
        self, rows: NDArray[np.int64], random: torch.Generator
    ) -> dict[str, Tensor]:
        """The same with all steps decoded."""
        return self._metrics(self.evidence(rows, random, None))

    def evidence(
        self,
        rows: NDArray[np.int64],
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

    def _metrics(self, evidence: Evidence) -> dict[str, Tensor]:
        log_likelihood, kl = evidence
        return {
            "loss": negative_elbo(log_likelihood, kl, self._beta, self._windows.horizon),
            "log_likelihood": log_likelihood.detach().mean(),
            "kl": kl.detach().mean(),
        }

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self._device)
