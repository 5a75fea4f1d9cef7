"""Numbers by counter: the published ones, and what they are used for."""

from __future__ import annotations

import pytest
import torch

from ldcq.philox import normals, philox

CPU = torch.device("cpu")
PUBLISHED = {
    (0, 0): ([0] * 4, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    (0xFFFFFFFF, 0xFFFFFFFF): (
        [0xFFFFFFFF] * 4,
        [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD],
    ),
    (0xA4093822, 0x299F31D0): (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
}
"""Key, counter and words of Random123's known answers."""


@pytest.mark.parametrize("key", PUBLISHED, ids=str)
def test_words_are_the_published_ones(key: tuple[int, int]) -> None:
    counter, expected = PUBLISHED[key]
    words = philox(key[1] << 32 | key[0], tuple(torch.tensor(word) for word in counter))
    assert [int(word) for word in words] == expected


def test_numbers_are_normal_and_of_their_own() -> None:
    drawn, later = normals(7, 0, 20_000, range(2), 5, CPU)
    assert drawn.shape == (20_000, 5)
    assert drawn.mean(0).abs().max() < 0.03
    assert (drawn.T.cov() - torch.eye(5)).abs().max() < 0.05
    assert drawn.pow(4).mean().item() == pytest.approx(3, abs=0.1)
    for other in (later, normals(8, 0, 20_000, range(1), 5, CPU)[0]):
        assert (drawn * other).mean(0).abs().max() < 0.03


def test_a_row_has_its_numbers_wherever_it_is_drawn() -> None:
    whole = normals(2**63 + 5, 0, 100, range(5), 6, CPU)
    assert torch.equal(whole[3:, 40:47], normals(2**63 + 5, 40, 7, range(3, 5), 6, CPU))
