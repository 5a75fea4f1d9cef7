"""Inputs with their sines and cosines: what changes within a fraction of their spread is learned
sooner.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Octaves(nn.Module):
    """[x; sin(pi 2^k x); cos(pi 2^k x)] for k = 0, ..., K - 1, of every entry of x alone.

    A network of plain inputs learns slow functions first, and walls of a maze are no slow function
    of a position. Source: the positional encoding of Mildenhall et al. 2020 (NeRF, Eq. 4).

    Args:
        count: K; 0: x as it is.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.factors = [math.pi * 2**octave for octave in range(count)]

    def width(self, size: int) -> int:
        """The number of outputs for inputs of `size`."""
        return size * (1 + 2 * len(self.factors))

    def forward(self, values: Tensor) -> Tensor:
        """Standardised inputs, (..., D), to (..., (1 + 2 K) D)."""
        angles = [factor * values for factor in self.factors]
        waves = [wave for angle in angles for wave in (angle.sin(), angle.cos())]
        return torch.cat([values, *waves], dim=-1)
