"""A file of flat arrays of steps as a data source: what D4RL's and OGBench's have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from common.data.flattening import Flattening, array_leaf, check_images
from ldcq.config import FramesConfig
from ldcq.data.episodes import DataError, Spaces, blocks

MARKS = ("terminals", "timeouts", "masks")
NARROW = ("rewards", *MARKS)
"""Arrays of one number a step."""
MOST_CHOICES = 1 << 16
"""Of a discrete action: a network has an output for each."""


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
            least = min(int(block.min()) for block in blocks(actions))
            count = max(int(block.max()) for block in blocks(actions)) + 1
            if least < 0 or count > MOST_CHOICES:
                raise DataError(
                    f"{self.name}: actions are whole numbers from {least} to {count - 1}, which "
                    f"mean one index a step; expected 0 to {MOST_CHOICES - 1}"
                )
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

    def _checked(self, arrays: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays of numbers with one row for each step; those of one number a step in memory, (M,).

        Raises:
            DataError: One is of another type, shape or number of rows, or there are no rows; or a
                mark is neither 0 nor 1.
        """
        observations = tuple(arrays["observations"].shape)
        for key, values in arrays.items():
            shape = tuple(values.shape)
            if values.dtype.kind not in "fiub":
                raise DataError(f"{self.name}: {key} are {values.dtype}, expected numbers")
            if not shape:
                raise DataError(f"{self.name}: {key} is one number, expected a row for each step")
            if observations and shape[0] != observations[0]:
                raise DataError(
                    f"{self.name}: {key} have {shape[0]} rows, expected {observations[0]} as "
                    "observations"
                )
            if key in NARROW and math.prod(shape[1:]) != 1:
                raise DataError(f"{self.name}: {key} have shape {shape}, expected one a step")
            if key == "next_observations" and shape != observations:
                raise DataError(
                    f"{self.name}: {key} have shape {shape}, expected {observations} as "
                    "observations"
                )
            if not math.prod(shape[1:]):
                raise DataError(f"{self.name}: {key} have shape {shape}, expected numbers in it")
        if not observations[0]:
            raise DataError(f"{self.name}: holds no steps")
        narrow = {key: np.asarray(arrays[key][()]).reshape(-1) for key in NARROW if key in arrays}
        for key in {*MARKS} & {*narrow}:
            if not (known := np.isin(narrow[key], (0, 1))).all():
                row = int(np.argmin(known))
                given = narrow[key][row]
                raise DataError(f"{self.name}: {key} hold {given} at row {row}, expected 0 or 1")
        return {**arrays, **narrow}
