"""A file of flat arrays of steps as a data source: what D4RL's and OGBench's have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from common.data.flattening import Flattening, array_leaf, check_images
from ldcq.config import FramesConfig
from ldcq.data.episodes import DataError, Spaces, blocks


@dataclass(frozen=True)
class ArrayFile(ABC):
    """A file with arrays `observations` and `actions`, a row for each step.

    Attributes:
        path: Of the file.
        frames: How images are compressed; None: there may be none.
    """

    path: Path
    frames: FramesConfig | None = None
    reference_scores: ClassVar[None] = None
    """The files record none."""

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @cached_property
    def flattening(self) -> Flattening:
        """How its observations become states.

        Raises:
            DataError: They are images, and `frames` does not say how these are compressed, or are
                of too many numbers.
        """
        rows, what = self._arrays["observations"], f"{self.name}: observations"
        leaf = array_leaf((), rows.shape[1:], rows.dtype, what, self.frames)
        check_images([leaf], self.name, self.frames)
        return Flattening((leaf,))

    @cached_property
    def spaces(self) -> Spaces:
        """Read off the arrays: Box actions are bounded by [-1, 1], as everywhere in D4RL and
        OGBench, or by the data where it goes beyond.

        Raises:
            DataError: Actions are whole numbers, but not one index a step.
        """
        actions, flat = self._arrays["actions"], self.flattening
        if np.issubdtype(actions.dtype, np.integer):
            if np.prod(actions.shape[1:]) > 1:
                raise DataError(
                    f"{self.name}: actions are {actions.dtype} of shape {actions.shape}; integers "
                    "mean one index a step, (T,): take the index of one-hot ones, and store "
                    "continuous ones as floating-point numbers"
                )
            count = max(int(block.max()) for block in blocks(actions)) + 1
            return replace(Spaces.discrete(flat.vector_size, count), frames=flat.frame_shape)
        low, high = np.float64(-1), np.float64(1)
        for block in blocks(actions):
            rows = block.reshape(len(block), -1)
            low, high = np.fmin(rows.min(axis=0), low), np.fmax(rows.max(axis=0), high)
        return replace(Spaces.box(flat.vector_size, low, high), frames=flat.frame_shape)

    @property
    @abstractmethod
    def _arrays(self) -> dict[str, Any]:
        """Those of the file that are wanted, by name, of as many rows each."""
