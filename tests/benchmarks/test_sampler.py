"""The sampler's benchmark compares implementations of the same sampling."""

from __future__ import annotations

import pytest
import torch

from benchmarks import sampler
from benchmarks.plain import plain_sample
from ldcq.config import SamplingConfig
from ldcq.randomness import block_generator
from tests.draws import latents


def test_figures_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "BUDGET", dict.fromkeys(sampler.BUDGET, 20))
    monkeypatch.setattr(sampler, "SIZES", {"cpu": (16,)})
    before = torch.get_num_threads()
    result = sampler.run(rounds=1, shapes=((1, 5), (3, 4)), guidance=(1.0, 2.0))
    assert {"ratio_to_plain", "fraction_of_sgemm"} <= set(result.summary)
    cells = [(row["shape"], row["w"]) for row in result.rows]
    assert cells == [("1x5", 1.0), ("1x5", 2.0), ("3x4", 1.0), ("3x4", 2.0)]
    assert result.summary["ratio_to_plain"] == result.rows[2]["ratio_to_plain"]
    assert torch.get_num_threads() == before


def test_a_row_is_made_of_medians_per_latent_and_step() -> None:
    prior, cell = sampler.paper_prior(), sampler._Cell(2, 5, 2.0, 200)
    cell.seconds |= {"ours": [1e-6, 2e-6, 9e-6], "plain": [8e-6] * 3}
    cell.seconds |= {"in_blocks": [6e-6] * 3, "split": [4e-6] * 3}
    row = sampler._row(prior, cell, {"fp32": 1e12})
    assert (row["shape"], row["latent_steps_per_s"], row["latents_per_s"]) == ("2x5", 500_000, 2500)
    assert (row["ratio_to_plain"], row["ratio_in_blocks"], row["ratio_to_split"]) == (4, 3, 2)
    # Guidance passes twice, and a multiply-add is two operations.
    assert row["gflops"] == pytest.approx(4 * 84_352 / 2e-6 / 1e9)
    assert row["fraction_of_sgemm"] == pytest.approx(4 * 84_352 / 2e-6 / 1e12)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_plain_sampling_is_ours(guidance: float) -> None:
    torch.set_num_threads(1)
    prior = sampler.paper_prior()
    states = torch.randn(4, sampler.STATE_DIM)
    options = SamplingConfig(
        solver="ddpm", steps=200, guidance=guidance, extra_steps=0, temperature=1.0
    )
    drawn = latents(prior.sampler(), states, 20, options, seed=3)
    noise = block_generator(3, 0, torch.device("cpu"))
    plain = plain_sample(prior, states, 20, guidance=guidance, generator=noise)
    torch.testing.assert_close(drawn.flatten(0, 1), plain, atol=1e-4, rtol=1e-4)


def test_needed_products_are_those_of_the_paper_s_network() -> None:
    """By hand: two layers in each block, one between blocks, and the last."""
    widths = (128, 32, 16, 8, 16, 32, 128)
    between = sum(a * b for a, b in zip((16, *widths), widths, strict=False))
    expected = 2 * sum(width**2 for width in widths) + between + 128 * 16
    assert sampler.needed_macs(sampler.paper_prior()) == expected == 84_352
