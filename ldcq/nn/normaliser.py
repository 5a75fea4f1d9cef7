"""Standardisation that travels with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

STD_FLOOR = 1e-6
"""Keeps a dimension that never changes from dividing by zero."""


class Normaliser(nn.Module):
    """Per-dimension standardisation (x - mean) / std, in buffers: it is saved with the model.

    Args:
        mean: Mean of each dimension, shape (D,).
        std: Standard deviation of each dimension, shape (D,); floored at `STD_FLOOR`.

    Raises:
        ValueError: The two are not vectors of one length.
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
        self.register_buffer("std", std.detach().clone().float().clamp_min(STD_FLOOR))

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
