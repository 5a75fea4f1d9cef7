"""Random numbers by counter: each is a function of a seed and of its own place alone.

Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") and the transform
of Box and Muller, number for number as Triton's `tl.philox` and `tl.pair_uniform_to_normal`, so
that a kernel draws what this draws, up to rounding.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROUNDS = 10
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_MASK = 0xFFFFFFFF
_TO_UNIT = 4.6566127342e-10
"""Takes 31 bits to [0, 1)."""
_LEAST = 1e-7
"""Of the uniform number whose logarithm is taken."""


def philox(seed: int, counters: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words for each counter.

    Args:
        seed: The key, 0 to 2^64 - 1.
        counters: Four tensors of int64, 0 to 2^32 - 1, of shapes that broadcast.

    Returns:
        Four tensors of int64, 0 to 2^32 - 1.
    """
    c0, c1, c2, c3 = counters
    k0, k1 = seed & _MASK, seed >> 32
    first, second = _MULTIPLIERS
    for _ in range(_ROUNDS):
        # Products of 64 bits wrap around; their two halves are right all the same.
        left, right = first * c0, second * c2
        c0, c2 = (right >> 32 & _MASK) ^ c1 ^ k0, (left >> 32 & _MASK) ^ c3 ^ k1
        c1, c3 = right & _MASK, left & _MASK
        k0, k1 = k0 + _KEY_STEPS[0] & _MASK, k1 + _KEY_STEPS[1] & _MASK
    return c0, c1, c2, c3


def normals(
    seed: int, start: int, rows: int, draws: range, width: int, device: torch.device
) -> Tensor:
    """N(0, I) of some rows of a call.

    Args:
        seed: The call's, 0 to 2^64 - 1.
        start: The first row's number within the call.
        rows: R.
        draws: D of the call's draws, counted from 0.
        width: Numbers of a row.
        device: Where they are computed.

    Returns:
        Shape (D, R, width), float32.
    """
    draw = torch.arange(draws.start, draws.stop, device=device)[:, None, None]
    row = torch.arange(start, start + rows, device=device)[:, None]
    pair = torch.arange(-(-width // 2), device=device)
    words = philox(seed, (row, pair, draw, torch.zeros_like(row)))[:2]
    first, second = (_uniform(word) for word in words)
    radius = torch.sqrt(-2 * torch.log(first.clamp_min(_LEAST)))
    angle = 2 * math.pi * second
    both = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)
    return both.flatten(-2)[..., :width]


def _uniform(word: Tensor) -> Tensor:
    """[0, 1) from the word as a signed number of 32 bits, folded to its positive half."""
    return torch.where(word > _MASK // 2, _MASK - word, word).float() * _TO_UNIT
