"""Steps of Adam by a schedule, over batches that all ranks share; on a GPU each is one graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from ldcq.learning.captured import CapturedUpdate, Tensors
from ldcq.learning.distributed import ranks

LOSS = "loss"


class Descent:
    """What updates the weights of a network.

    Args:
        network: What is trained, on the device where it is trained.
        measure: From tensors on that device to means over them, scalars, of which `loss` is
            descended along, and to whatever else is wanted of an update.
        learning_rate: Of Adam; the peak where there is a cycle.
        schedule: See `learning_rate_schedule`.
        total: Steps in all.
        after: Called after every step of Adam.
    """

    def __init__(
        self,
        network: nn.Module,
        measure: Callable[[Tensors], Mapping[str, Tensor]],
        *,
        learning_rate: float,
        schedule: Literal["constant", "one_cycle"],
        total: int,
        after: Callable[[], None] | None = None,
    ) -> None:
        self._parameters, self._ranks = list(network.parameters()), ranks()
        self._measure, self._after = measure, after
        self._device = self._parameters[0].device
        self._on_gpu = self._device.type == "cuda"
        # The fused kernel: networks are many small tensors, and a loop over them would show.
        self._optimiser = torch.optim.Adam(
            self._parameters, lr=learning_rate, fused=True, capturable=self._on_gpu
        )
        self._rate_on_device()
        self._schedule = learning_rate_schedule(self._optimiser, schedule, total)
        # Several ranks wait for each other between the gradients and the step.
        captured = self._on_gpu and self._ranks.count == 1
        self._update = CapturedUpdate(self._make) if captured else self._make

    @property
    def learning_rate(self) -> Tensor | float:
        """That of the next step; on a GPU a tensor, so that nobody waits for it."""
        rate = self._optimiser.param_groups[0]["lr"]
        return rate.clone() if isinstance(rate, Tensor) else float(rate)

    def step(self, inputs: Tensors, share: float = 1.0) -> dict[str, Tensor]:
        """Descends once.

        Args:
            inputs: This rank's share of a batch, as `measure` takes it.
            share: What part of the batch that is.

        Returns:
            What `measure` returns, its means over the whole batch; valid until the next step.
        """
        self._share = share
        means = self._update(inputs)
        self._schedule.step()
        return means

    def _make(self, inputs: Tensors) -> dict[str, Tensor]:
        self._optimiser.zero_grad(set_to_none=True)
        # What is averaged over a share, weighted by it, adds up to the average over the batch.
        parts = {name: self._share * value for name, value in self._measure(inputs).items()}
        parts[LOSS].backward()  # type: ignore[no-untyped-call]
        sums = self._ranks.sum_gradients(self._parameters, *parts.values())
        self._optimiser.step()
        if self._after is not None:
            self._after()
        return {name: value.detach() for name, value in zip(parts, sums, strict=True)}

    def do_not_capture(self) -> None:
        """Launches kernels one by one from now on, on a GPU too: to compare, or to look inside."""
        self._update = self._make

    def state_dict(self) -> dict[str, Any]:
        """Optimiser and schedule."""
        return {"optimiser": self._optimiser.state_dict(), "schedule": self._schedule.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned, also on another kind of device; other entries do not
        count.
        """
        self._optimiser.load_state_dict(state["optimiser"])
        for group in self._optimiser.param_groups:
            group["capturable"] = self._on_gpu
        self._rate_on_device()
        self._schedule.load_state_dict(state["schedule"])
        if isinstance(self._update, CapturedUpdate):
            self._update.forget()

    def _rate_on_device(self) -> None:
        """A graph reads the learning rate anew at every replay where it is a tensor."""
        for group in self._optimiser.param_groups:
            rate = float(group["lr"])
            group["lr"] = torch.tensor(rate, device=self._device) if self._on_gpu else rate


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
