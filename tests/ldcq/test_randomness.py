"""The noise of a block belongs to its seed and its number alone."""

from __future__ import annotations

import torch

from ldcq.randomness import block_generator


def test_seeds_that_differ_in_any_bit_or_block_draw_other_noise() -> None:
    def noise(seed: int, block: int = 0) -> torch.Tensor:
        return torch.randn(8, generator=block_generator(seed, block, torch.device("cpu")))

    assert torch.equal(noise(7), noise(7))
    others = [noise(7, 1), noise(7 + 2**32), noise(7 + 2**63), noise(2**64 - 1)]
    assert not any(torch.equal(noise(7), other) for other in others)
