"""Random numbers of a `Sample` call: from its seed alone, in blocks of rows that can be computed in
any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from ldcq.philox import normals

BLOCK_ROWS = 2048
"""Rows computed at once, so that activations stay in cache. Part of what a seed means: changing it
changes samples."""

CUDA_BLOCK_ROWS = 16384
"""The same on a GPU, where too few rows leave most of it idle."""

DRAWS_AT_ONCE = 16
"""Draws of counted noise that are computed together."""

LEAST_ROWS = 64
"""Smaller blocks are padded: with fewer rows (12 were seen) matrix libraries choose other kernels,
and the same row gets other bits than among many."""


def block_rows(device: torch.device) -> int:
    """Most rows that are computed at once on this kind of device."""
    return CUDA_BLOCK_ROWS if device.type == "cuda" else BLOCK_ROWS


def block_ranges(rows: int, most: int = BLOCK_ROWS) -> Iterator[tuple[int, int]]:
    """Start and end of each block, of at most `most` rows, of a call of so many rows."""
    for start in range(0, rows, most):
        yield start, min(start + most, rows)


def padded_rows(rows: int, device: torch.device) -> int:
    """How many rows a block of `rows` is computed as.

    At least `LEAST_ROWS`, and on a GPU a power of two, so that a few captured graphs serve every
    size of call.
    """
    least = max(rows, LEAST_ROWS)
    return 1 << (least - 1).bit_length() if device.type == "cuda" else least


def block_generator(seed: int, block: int, device: torch.device) -> torch.Generator:
    """The generator of one block of a call.

    The pair is hashed because torch's CPU generator keeps only the low 32 bits of a seed: seeds
    that differ in the high ones, as those made of a run's seed and a step do, must not draw the
    same noise.

    Args:
        seed: The call's, 0 to 2^64 - 1.
        block: Index of the block, from 0.
        device: Where the numbers are drawn.
    """
    key = seed.to_bytes(8, "little") + block.to_bytes(8, "little")
    mixed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
    return torch.Generator(device=device).manual_seed(mixed)


class NoiseSource(Protocol):
    """The random numbers of some rows of one call."""

    rows: int

    def fill(self, values: Tensor) -> None:
        """The next D draws of N(0, I), (D, rows, Z)."""
        ...


def noise_source(seed: int, start: int, rows: int, device: torch.device) -> NoiseSource:
    """The noise of rows `start` to `start + rows` of a call.

    On the CPU the rows begin a block, which has a generator of its own. On a GPU each number is a
    function of the seed, its row and the draw, so that every path through the loop draws the same.

    Args:
        seed: The call's, 0 to 2^64 - 1.
        start: The first row's number within the call; on the CPU a multiple of `BLOCK_ROWS`.
        rows: How many.
        device: Where they are drawn.
    """
    if device.type == "cuda":
        return CountedNoise(rows, seed, start)
    return GeneratedNoise(rows, block_generator(seed, start // BLOCK_ROWS, device))


@dataclass
class GeneratedNoise:
    """From a generator, one draw after the other."""

    rows: int
    generator: torch.Generator

    def fill(self, values: Tensor) -> None:
        for draw in values:
            draw.normal_(generator=self.generator)


@dataclass
class CountedNoise:
    """Of the seed and each row's number within the call (`ldcq.philox`)."""

    rows: int
    seed: int
    start: int
    drawn: int = 0

    def fill(self, values: Tensor) -> None:
        # Some at a time: words are counted in 64 bits, so they take several times the memory.
        for some in values.split(DRAWS_AT_ONCE):  # type: ignore[no-untyped-call]
            draws = range(self.drawn, self.drawn + len(some))
            width, device = values.shape[2], values.device
            some.copy_(normals(self.seed, self.start, self.rows, draws, width, device))
            self.drawn = draws.stop


class BlockNoise:
    """The random numbers of one block of rows, each draw's from a source of its own.

    Args:
        sources: Of the draws in the block, one after the other.
        width: Z.
        device: Where they are drawn.

    Attributes:
        rows: Of all draws.
    """

    def __init__(self, sources: Sequence[NoiseSource], width: int, device: torch.device) -> None:
        self.rows = sum(source.rows for source in sources)
        self._values = torch.zeros(padded_rows(self.rows, device), width, device=device)
        self._slices: list[tuple[slice, NoiseSource]] = []
        start = 0
        for source in sources:
            # In slices, as a generator's numbers depend on how many are drawn at once.
            self._slices.append((slice(start, start + source.rows), source))
            start += source.rows

    def draw(self) -> Tensor:
        """N(0, I) for all rows and zeros for the padding, valid until the next one."""
        for rows, source in self._slices:
            source.fill(self._values[None, rows])
        return self._values

    @property
    def padded(self) -> int:
        """Rows with the padding."""
        return len(self._values)

    def buffer(self, draws: int) -> Tensor:
        """Room for so many draws, (draws, padded, Z), zeros."""
        return self._values.new_zeros(draws, *self._values.shape)

    def draw_all(self, out: Tensor) -> None:
        """Fills `out` (draws, padded, Z) with the very numbers that as many `draw` would give."""
        out[:, self.rows :].zero_()
        for rows, source in self._slices:
            source.fill(out[:, rows])

    def pad(self, values: Tensor) -> Tensor:
        """Rows of zeros behind `values` (rows, width), as many as the noise has."""
        missing = len(self._values) - len(values)
        return functional.pad(values, (0, 0, 0, missing)) if missing else values
