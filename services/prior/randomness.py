"""Random numbers of a `Sample` call: from its seed alone, in blocks of rows that can be computed in
any order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch

BLOCK_ROWS = 2048
"""Rows computed at once, so that activations stay in cache. Part of what a seed means: changing it
changes samples."""


def block_ranges(rows: int) -> Iterator[tuple[int, int]]:
    """Start and end of each block of a call of so many rows."""
    for start in range(0, rows, BLOCK_ROWS):
        yield start, min(start + BLOCK_ROWS, rows)


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
