"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

M = TypeVar("M", bound=nn.Module)


class ExponentialMovingAverage(Generic[M]):
    """average <- decay * average + (1 - decay) * weights, after every optimiser step.

    The first update copies the weights, so that the random start has no share in the average.
    Buffers are copied.
    """

    def __init__(self, module: M, decay: float) -> None:
        """Starts at the module's weights.

        Args:
            module: What is trained.
            decay: In [0, 1); 0 follows the last weights.

        Raises:
            ValueError: `decay` is out of range.
        """
        if not 0 <= decay < 1:
            raise ValueError(f"decay: got {decay}, expected at least 0 and less than 1")
        self._source, self._decay = module, decay
        self._averaged = AveragedModel(module)
        self._averaged.requires_grad_(False)

    @property
    def module(self) -> M:
        """The average, a module like the source."""
        return cast(M, self._averaged.module)

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the source's current weights."""
        if not self._averaged.n_averaged:
            self._averaged.update_parameters(self._source)
            return
        # `update_parameters` would ask a GPU for the number of updates, and so wait for it.
        own, source = self.module, self._source
        torch._foreach_lerp_([*own.parameters()], [*source.parameters()], 1 - self._decay)
        for buffer, given in zip(own.buffers(), source.buffers(), strict=True):
            buffer.copy_(given)
        self._averaged.n_averaged += 1

    def state_dict(self) -> dict[str, Any]:
        """The average and the number of updates."""
        return dict(self._averaged.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._averaged.load_state_dict(state)
