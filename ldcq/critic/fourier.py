"""Features of coordinates for values that change across a thin wall."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FourierFeatures:
    """Sines and cosines of entries of the normalised state, beside the state itself.

    A network over coordinates alone is smooth in them, and so blurs what a thin wall parts (Tancik
    et al. 2020); the paper's critic has none of these.

    Attributes:
        indices: Entries of the state.
        octaves: Frequencies per entry: 1, 2, 4, ... radians per standard deviation.
    """

    indices: tuple[int, ...]
    octaves: int

    @property
    def width(self) -> int:
        """How many features there are."""
        return 2 * len(self.indices) * self.octaves

    def append_to(self, states: Tensor) -> Tensor:
        """Normalised states (N, S) with their features, (N, S + width)."""
        if not self.width:
            return states
        octaves = 2.0 ** torch.arange(self.octaves, device=states.device)
        phases = (states[:, list(self.indices), None] * octaves).flatten(1)
        return torch.cat((states, phases.sin(), phases.cos()), dim=1)
