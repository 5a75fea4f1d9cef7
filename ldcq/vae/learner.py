"""Trains the beta-VAE on windows (Eq. 4, Table 5)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config
from ldcq.data.windows import Windows
from ldcq.learning.batches import moved
from ldcq.learning.captured import Tensors
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

    def inputs(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Windows, with noise for z and `vae.decoded_steps` steps to decode; see `evidence`."""
        return self._inputs(rows, random, self._decoded_steps, share)

    def validation_inputs(
        self, rows: NDArray[np.int64], random: torch.Generator
    ) -> dict[str, Tensor]:
        """The same with all steps decoded."""
        return self._inputs(rows, random, None)

    def metrics(self, inputs: Tensors) -> dict[str, Tensor]:
        """Means over some windows.

        Returns:
            `loss`: the negative ELBO / H; `log_likelihood`: per decoded step; `kl`: in nats.
        """
        log_likelihood, kl = self.evidence(inputs)
        return {
            "loss": negative_elbo(log_likelihood, kl, self._beta, self._windows.horizon),
            "log_likelihood": log_likelihood.detach().mean(),
            "kl": kl.detach().mean(),
        }

    def evidence(self, inputs: Tensors) -> Evidence:
        """Both terms of Eq. 4 with one sample of z per window, reparameterised.

        Args:
            inputs: `states` (B, H, S) and `actions` (B, H, A) of windows, `noise` for z (B, Z), and
                `steps` to decode (B, K); without these, all are.
        """
        states, actions = self.vae.state_normaliser(inputs["states"]), inputs["actions"]
        posterior = self.vae.encode_standardised(states, actions)
        prior = self.vae.conditional_prior(states[:, 0])
        latents = posterior.sample(inputs["noise"]).unsqueeze(1)
        if "steps" in inputs:
            chosen = inputs["steps"].unsqueeze(-1)
            states = states.take_along_dim(chosen, dim=1)
            actions = actions.take_along_dim(chosen, dim=1)
        latents = latents.expand(-1, states.shape[1], -1)
        return Evidence(
            self.vae.decoder.log_prob(states, latents, actions), kl_divergence(posterior, prior)
        )

    def _inputs(
        self,
        rows: NDArray[np.int64],
        random: torch.Generator,
        decoded: int | None,
        share: slice = slice(None),
    ) -> dict[str, Tensor]:
        chosen, horizon = rows[share], self._windows.horizon
        noise = torch.randn(len(rows), self.vae.dimensions.latent, generator=random)
        steps = decoded_steps(len(rows), horizon, decoded, random)
        found = {
            "states": torch.from_numpy(self._windows.states(chosen)),
            "actions": torch.from_numpy(self._windows.actions(chosen)),
            "noise": noise[share],
            **({} if steps is None else {"steps": steps[share]}),
        }
        return {name: moved(tensor, self._device) for name, tensor in found.items()}
