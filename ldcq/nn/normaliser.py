"""Standardisation that travels with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ldcq.data.statistics import scale


class Normaliser(nn.Module):
    """Per-dimension standardisation (x - mean) / std, in buffers: it is saved with the model.

    Args:
        mean: Mean of each dimension, shape (D,).
        std: What each dimension is divided by, shape (D,).

    Raises:
        ValueError: The two are not vectors of one length, or a dimension is divided by 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ValueError(
                f"mean, std: got shapes {tuple(mean.shape)} and {tuple(std.shape)}, expected (D,)"
            )
        self.register_buffer("mean", mean.detach().clone().float())
        self.register_buffer("std", std.detach().clone().float())
        if not bool((self.std > 0).all()):
            raise ValueError(
                f"std: got {self.std.min():g}, expected positive numbers; `Normaliser.of` takes "
                "deviations as they are"
            )

    @classmethod
    def of(cls, mean: Tensor, deviation: Tensor) -> Normaliser:
        """One of data with these statistics, shape (D,) each: the deviation of a constant dimension
        is 1 (`ldcq.data.statistics.scale`).
        """
        known = scale(mean.double().cpu().numpy(), deviation.double().cpu().numpy())
        return cls(mean, torch.from_numpy(known).to(mean.device))

    @classmethod
    def identity(cls, size: int) -> Normaliser:
        """One that changes nothing, to be overwritten by `load_state_dict`."""
        return cls(torch.zeros(size), torch.ones(size))

    def forward(self, values: Tensor) -> Tensor:
        """Raw to standardised, shape (..., D)."""
        standardised: Tensor = (values - self.mean) / self.std
        return standardised

    def inverse(self, values: Tensor) -> Tensor:
        """Standardised to raw, shape (..., D)."""
        raw: Tensor = values * self.std + self.mean
        return raw
