"""Diagonal Gaussians as the output of a network."""

from __future__ import annotations

import math
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

    @classmethod
    def of(cls, mean: Tensor, raw_std: Tensor, min_std: float) -> Gaussian:
        """With a network's outputs, each (..., D): the softplus of the second (A.2.1) plus
        `min_std`, so that its logarithm stays finite.
        """
        return cls(mean, functional.softplus(raw_std) + min_std)

    def sample(self, noise: Tensor) -> Tensor:
        """The sample that standard normal `noise` (..., D) is mapped to, differentiably."""
        return self.mean + self.std * noise


class GaussianHead(nn.Module):
    """Mean and standard deviation heads: two MLPs of 2 layers, softplus on the second (A.2.1).

    Args:
        inputs: Width of the features.
        hidden: Width of the hidden layers.
        outputs: D.
        min_std: Floor of the standard deviation.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, min_std: float) -> None:
        super().__init__()
        self.mean = mlp([inputs, hidden, outputs])
        self.raw_std = mlp([inputs, hidden, outputs])
        self._min_std = min_std

    def forward(self, features: Tensor) -> Gaussian:
        """Features (..., inputs) to a Gaussian over (..., D)."""
        return Gaussian.of(self.mean(features), self.raw_std(features), self._min_std)


def log_density(values: Tensor, gaussian: Gaussian) -> Tensor:
    """Log density of each element under a diagonal Gaussian, in nats, not summed.

    Args:
        values: Shape (..., D).
        gaussian: Mean and deviation, (..., D).

    Returns:
        Shape (..., D).
    """
    standardised = (values - gaussian.mean) / gaussian.std
    return -0.5 * (standardised.square() + math.log(2 * math.pi)) - torch.log(gaussian.std)
