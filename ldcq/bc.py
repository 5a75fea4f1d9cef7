"""Behaviour cloning, the paper's BC column: pi(a | s), by maximum likelihood, no latents."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import BcConfig, Config
from ldcq.data.windows import Windows
from ldcq.learning.batches import moved
from ldcq.learning.captured import Tensors
from ldcq.learning.supervised import SupervisedLearner
from ldcq.nn.model import Dimensions
from ldcq.nn.normaliser import Normaliser
from ldcq.vae.decoder import make_decoder
from ldcq.vae.low_level import LowLevelPolicy, policy_dimensions


class Bc(LowLevelPolicy):
    """pi(a | s): the VAE's decoder over latents of no dimension, which chooses at every step.

    Args:
        dimensions: Of states and actions; a horizon of 1.
        config: The section `bc`.
    """

    kind = "bc"
    Settings = BcConfig
    config: BcConfig

    def __init__(self, dimensions: Dimensions, config: BcConfig) -> None:
        super().__init__(dimensions, config)
        self.state_normaliser = Normaliser.identity(dimensions.state)
        self.decoder = make_decoder(dimensions, config.decoder, config.hidden, config.min_std)


class BcLearner(SupervisedLearner):
    """Maximises log pi(a | s) over single steps of the data.

    Attributes:
        policy: What is trained.
    """

    def __init__(self, config: Config, steps: Windows, device: torch.device) -> None:
        """Initialises the network from torch's global random state.

        Args:
            config: The variant's configuration.
            steps: The data as windows of one step.
            device: Where to train.
        """
        self.policy = Bc(policy_dimensions(steps, latent_dim=0), config.bc)
        self.policy.fit_to(steps)
        super().__init__(self.policy.to(device), config.bc, steps, config.seed)
        self._steps, self._device = steps, device

    def inputs(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """States (B, S) and actions (B, A) of some steps of the data; nothing is drawn."""
        del random
        chosen = rows[share]
        arrays = {
            "states": self._steps.first_states(chosen),
            "actions": self._steps.actions(chosen)[:, 0],
        }
        return {name: moved(torch.from_numpy(each), self._device) for name, each in arrays.items()}

    def metrics(self, inputs: Tensors) -> dict[str, Tensor]:
        """`loss`: -log pi(a | s) in nats per step."""
        states = self.policy.state_normaliser(inputs["states"])
        nothing = states.new_zeros(len(states), 0)
        return {"loss": -self.policy.decoder.log_prob(states, nothing, inputs["actions"]).mean()}
