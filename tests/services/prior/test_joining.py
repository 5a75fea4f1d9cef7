"""Calls computed at once get the bits they get alone, whatever is beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor

from common.store import Store
from ldcq.config import SamplingConfig
from ldcq.diffusion.fast.fused import freeze
from ldcq.diffusion.fast.split import SplitDenoiser
from ldcq.latent_prior import Draw
from ldcq.prior import JoiningSampler
from ldcq.randomness import BLOCK_ROWS
from services.prior.model import ServedPrior, load_prior
from tests.draws import draw, latents
from tests.services.prior.world import STATE, publish, small_config, some_prior

CALLS = some.lists(
    some.tuples(some.integers(1, 4), some.integers(1, 120), some.integers(0, 2**64 - 1)),
    min_size=1,
    max_size=6,
)


@pytest.fixture(params=[freeze, SplitDenoiser])
def sampler(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> JoiningSampler:
    """With compiled code, where there is a compiler, and with the matrix library's."""
    monkeypatch.setattr("ldcq.diffusion.fast.fastest.freeze", request.param)
    found = some_prior(small_config()).requires_grad_(False).sampler()
    assert isinstance(found, JoiningSampler)
    return found


@pytest.mark.parametrize("threads", [1, 2])
def test_neighbours_do_not_change_a_bit(sampler: JoiningSampler, threads: int) -> None:
    torch.set_num_threads(threads)

    @settings(max_examples=40, deadline=None, database=None)
    @given(calls=CALLS, guidance=some.sampled_from([0.0, 1.0, 2.0]), steps=some.integers(1, 3))
    def check(calls: list[tuple[int, int, int]], guidance: float, steps: int) -> None:
        options = sampler.resolve(SamplingConfig(guidance=guidance, steps=steps))
        source = torch.Generator().manual_seed(len(calls))
        draws = [
            draw(torch.randn(n, STATE, generator=source), m, seed=seed, options=options)
            for n, m, seed in calls
        ]
        with torch.inference_mode():
            joined = sampler.join(draws)
        alone = [torch.tensor(sampler.sample(one).latents) for one in draws]
        assert torch.equal(joined, torch.cat([rows.flatten(0, 1) for rows in alone]))

    check()


def test_a_full_block_of_small_calls(sampler: JoiningSampler) -> None:
    options, states = sampler.resolve(SamplingConfig()), torch.arange(BLOCK_ROWS // 64)
    draws = [draw(torch.full((1, STATE), i), 64, seed=int(i), options=options) for i in states]
    with torch.inference_mode():
        joined = sampler.join(draws).split(64)  # type: ignore[no-untyped-call]
    for one, rows in zip(draws, joined, strict=True):
        assert torch.equal(latents(sampler, one.states, 64, seed=one.seed)[0], rows)


def _served(tmp_path: Path) -> ServedPrior:
    store = Store(tmp_path)
    version = publish(store, small_config())
    return load_prior(store.load("prior", version), torch.device("cpu"))


def test_a_model_is_joined_where_it_was_seen_to_keep_its_bits(tmp_path: Path) -> None:
    model = _served(tmp_path)
    assert model.joining is model.sampler


def test_calls_are_not_joined_where_their_bits_would_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sampler = _served(tmp_path).joining
    assert sampler is not None
    kind = type(sampler)
    exact = kind.join

    def inexact(self: JoiningSampler, draws: Sequence[Draw]) -> Tensor:
        rows: Tensor = exact(self, draws)
        return rows if len(draws) == 1 else rows * (1 + 1e-6)

    monkeypatch.setattr(kind, "join", inexact)
    assert _served(tmp_path).joining is None
    assert "one by one" in caplog.text
