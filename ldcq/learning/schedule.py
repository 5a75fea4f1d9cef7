"""Learning-rate schedules by name."""

from __future__ import annotations

from typing import Literal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR


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
