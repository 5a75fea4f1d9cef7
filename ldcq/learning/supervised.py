"""A learner for stages that fit one network to rows of data: Adam over shuffled batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.data.latents import LatentTable
from ldcq.data.windows import Windows
from ldcq.learning.batches import BatchSampler, evenly_spread, generator
from ldcq.learning.captured import Tensors
from ldcq.learning.descent import Descent
from ldcq.learning.distributed import ranks
from ldcq.nn.model import Model


class FitSettings(Protocol):
    """What a section of the configuration says about fitting."""

    @property
    def learning_rate(self) -> float:
        """Of Adam; the peak where there is a cycle."""

    @property
    def schedule(self) -> Literal["constant", "one_cycle"]:
        """See `learning_rate_schedule`."""

    @property
    def batch_size(self) -> int:
        """B."""

    @property
    def epochs(self) -> int:
        """Passes over the training rows."""


class SupervisedLearner(ABC):
    """The `Learner` of a network whose loss is a mean over rows.

    All randomness of step k is a function of the seed and k, so that there is no generator whose
    state would have to be saved.

    Attributes:
        network: What is trained.
        total: Updates in all.
        validation_rows: Held-out rows that a validation looks at, spread evenly over all.
    """

    validation_rows: ClassVar[int] = 4096

    def __init__(
        self, network: Model, settings: FitSettings, data: Windows | LatentTable, seed: int
    ) -> None:
        """Takes the network as it is initialised.

        Args:
            network: On the device where it is to be trained; the random numbers are its kind's own.
            settings: How to fit.
            data: Says which rows to learn from, and which to validate with, if any.
            seed: The configuration's.

        Raises:
            ValueError: There are no rows to learn from.
        """
        self.network = network
        self._stage, self._seed, self._ranks = network.kind, seed, ranks()
        self._training = data.training
        self._held_out = evenly_spread(data.held_out, self.validation_rows)
        rows = len(self._training)
        self._sampler = BatchSampler(rows, settings.batch_size, seed, network.kind, "batch")
        self.total = settings.epochs * self._sampler.steps_per_epoch
        self._descent = Descent(
            network,
            self.metrics,
            learning_rate=settings.learning_rate,
            schedule=settings.schedule,
            total=self.total,
        )

    @abstractmethod
    def inputs(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """What `metrics` reads of some rows, on the network's device.

        Args:
            rows: A batch.
            share: Which of them to look at; random numbers are drawn for all.
            random: Draws whatever is drawn.
        """

    @abstractmethod
    def metrics(self, inputs: Tensors) -> dict[str, Tensor]:
        """Means over what `inputs` gave; `loss` is what is minimised."""

    def validation_inputs(
        self, rows: NDArray[np.int64], random: torch.Generator
    ) -> dict[str, Tensor]:
        """`inputs` of held-out rows, unless updates look at a part of each row only.

        Args:
            rows: Held-out rows.
            random: Draws whatever is drawn.
        """
        return self.inputs(rows, slice(None), random)

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        """One step of Adam; `metrics`, and the learning rate."""
        rows = self._training[self._sampler.indices(step).numpy()]
        share = self._ranks.share(len(rows))
        inputs = self.inputs(rows, share, generator(self._seed, self._stage, "update", step))
        rate = self._descent.learning_rate
        means = self._descent.step(inputs, len(rows[share]) / len(rows))
        return {**means, "learning_rate": rate}

    @torch.no_grad()
    def validate(self) -> Mapping[str, Tensor | float]:
        """Metrics of held-out rows, with the same noise every time; empty without such rows."""
        if not len(self._held_out):
            return {}
        random = generator(self._seed, self._stage, "validation")
        return self.metrics(self.validation_inputs(self._held_out, random))

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser and schedule."""
        return {"network": self.network.state_dict(), **self._descent.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self._descent.load_state_dict(state)
