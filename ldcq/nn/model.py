"""What all trained networks are: modules made from their section of the configuration alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from ldcq.config.loading import validated
from ldcq.config.section import NonNegative, Positive, Section


class Dimensions(Section):
    """Sizes of what a model takes and gives; 0 where it has none of it."""

    state: NonNegative = 0
    """S."""
    action: NonNegative = 0
    """A; 1 where actions are discrete."""
    latent: NonNegative = 0
    """Z."""
    horizon: NonNegative = 0
    """H, the steps that a latent stands for."""
    discrete_actions: NonNegative = 0
    """How many actions there are to choose from; 0: actions are continuous."""
    goal: NonNegative = 0
    """G."""
    lengths: Positive = 1
    """K, numbers of executed steps that a latent is valued for."""


class Model(nn.Module):
    """A network that its dimensions and its section of the configuration make.

    What else it needs, statistics of the data for one, is in its state dict. So the two and the
    state dict rebuild it.

    Attributes:
        kind: The kind of the artifacts that hold it.
        Settings: The type of its section.
        Sizes: The type of its sizes.
        dimensions: Its sizes.
        config: Its section.
    """

    kind: ClassVar[str]
    Settings: ClassVar[type[Section]]
    Sizes: ClassVar[type[Dimensions]] = Dimensions
    dimensions: Dimensions
    config: Section

    def __init__(self, dimensions: Dimensions, config: Section) -> None:
        """Subclasses build their networks here; the weights come from torch's global generator."""
        super().__init__()
        self.dimensions, self.config = dimensions, config

    @classmethod
    def rebuild(
        cls,
        dimensions: Mapping[str, int],
        config: Mapping[str, JsonValue],
        tensors: Mapping[str, np.ndarray],
        device: torch.device | str = "cpu",
    ) -> Self:
        """A trained model, frozen and in evaluation mode.

        Args:
            dimensions: Its `dimensions` as a mapping.
            config: Its `config` as a mapping.
            tensors: One array for every entry of its state dict, by name.
            device: Where it is to run.

        Raises:
            ValueError: The three do not fit one another or this class; the message says where.
        """
        try:
            model = cls(validated(cls.Sizes, dimensions), validated(cls.Settings, config))
            _load(model, tensors)
        except ValueError as error:
            raise ValueError(f"{cls.__name__} cannot be rebuilt: {error}") from error
        return model.to(device).eval().requires_grad_(False)


def _load(module: nn.Module, tensors: Mapping[str, np.ndarray]) -> None:
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: array.shape for name, array in tensors.items()}
    if given != expected:
        wrong = sorted(
            name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name)
        )
        raise ValueError(f"weights {wrong} do not fit")
    # Copied: arrays of a store may not be writable.
    module.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
