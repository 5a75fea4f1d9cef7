"""Diagonal Gaussians as the output of a network."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ldcq.nn.mlp import mlp


class Gaussian(NamedTuple):
    """A diagonal Gaussian.

    Attributes:
        mean: Shape (..., D).
        std: Shape (..., D), positive.
    """

    mean: Tensor
    std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The sample that standard normal `noise` (..., D) is mapped to, differentiably."""
        return self.mean + self.std * noise


class GaussianHead(nn.Module):
    """Mean and standard deviation heads: two MLPs of 2 layers, softplus on the second (A.2.1).

    Args:
        inputs: Width of the features.
        hidden: Width of the hidden layers.
        outputs: D.
        min_std: Added to the standard deviation, so that its logarithm stays finite.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, min_std: float) -> None:
        super().__init__()
        self.mean = mlp([inputs, hidden, outputs])
        self.raw_std = mlp([inputs, hidden, outputs])
        self._min_std = min_std

    def forward(self, features: Tensor) -> Gaussian:
        """Features (..., inputs) to a Gaussian over (..., D)."""
        return Gaussian(
            self.mean(features), functional.softplus(self.raw_std(features)) + self._min_std
        )


def log_density(values: Tensor, gaussian: Gaussian) -> Tensor:
    """Log density of each element under a diagonal Gaussian, in nats, not summed.

    Args:
        values: Shape (..., D).
        gaussian: Mean and deviation, (..., D).

    Returns:
        Shape (..., D).
    """
    standardised = (values - gaussian.mean) / gaussian.std
    half_log_two_pi = 0.9189385332046727
    return -0.5 * standardised.square() - torch.log(gaussian.std) - half_log_two_pi
