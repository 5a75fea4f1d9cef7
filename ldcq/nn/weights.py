"""From an artifact's tensors to a module's weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn


def load_weights(module: nn.Module, tensors: Mapping[str, np.ndarray]) -> None:
    """Copies an artifact's tensors into a module.

    Args:
        module: On any device.
        tensors: One array for every entry of the module's state dict, by name.

    Raises:
        ValueError: An entry is missing, unknown or of another shape.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: array.shape for name, array in tensors.items()}
    if given != expected:
        wrong = sorted(
            name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name)
        )
        raise ValueError(f"weights {wrong} do not fit {type(module).__name__}")
    # Copied: the store hands out arrays that may not be writable.
    module.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()})
