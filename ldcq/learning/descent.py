"""Steps of Adam by a schedule, over batches that all ranks share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from ldcq.learning.distributed import ranks


class Descent:
    """What updates the weights of a network."""

    def __init__(
        self,
        network: nn.Module,
        *,
        learning_rate: float,
        schedule: Literal["constant", "one_cycle"],
        total: int,
    ) -> None:
        """Takes all weights of a network, on the device where it is trained.

        Args:
            network: What is trained.
            learning_rate: Of Adam; the peak where there is a cycle.
            schedule: See `learning_rate_schedule`.
            total: Steps in all.
        """
        self._parameters, self._ranks = list(network.parameters()), ranks()
        # The fused kernel: networks are many small tensors, and a loop over them would show.
        self._optimiser = torch.optim.Adam(self._parameters, lr=learning_rate, fused=True)
        self._schedule = learning_rate_schedule(self._optimiser, schedule, total)

    def step(self, metrics: Mapping[str, Tensor], share: float) -> dict[str, Tensor | float]:
        """Descends along `metrics["loss"]`.

        Args:
            metrics: Means over this rank's share of a batch, scalars.
            share: What part of the batch that is.

        Returns:
            Means over the whole batch, and `learning_rate`.
        """
        # What is averaged over a share, weighted by it, adds up to the average over the batch.
        parts = {name: share * value for name, value in metrics.items()}
        self._optimiser.zero_grad(set_to_none=True)
        parts["loss"].backward()  # type: ignore[no-untyped-call]
        sums = self._ranks.sum_gradients(self._parameters, *parts.values())
        rate = float(self._optimiser.param_groups[0]["lr"])
        self._optimiser.step()
        self._schedule.step()
        means = {name: value.detach() for name, value in zip(parts, sums, strict=True)}
        return {**means, "learning_rate": rate}

    def state_dict(self) -> dict[str, Any]:
        """Optimiser and schedule."""
        return {"optimiser": self._optimiser.state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned; other entries do not count."""
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])


def learning_rate_schedule(
    optimiser: Optimizer, schedule: Literal["constant", "one_cycle"], total: int
) -> LRScheduler:
    """A schedule over `total` steps, to be stepped once after every optimiser step.

    Args:
        optimiser: Its learning rate is the constant one, or the peak of the cycle.
        schedule: `constant`, or `one_cycle`: a warm-up over 30 % of the steps, then a cosine to
            almost 0. Momentum is left alone.
        total: Steps in all.
    """
    if schedule == "constant":
        return ConstantLR(optimiser, factor=1.0, total_iters=0)
    peaks = [float(group["lr"]) for group in optimiser.param_groups]
    return OneCycleLR(optimiser, max_lr=peaks, total_steps=max(total, 1), cycle_momentum=False)
