"""The network, and that taking it apart changes nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldcq.diffusion.denoiser import Denoiser, skip_sources, time_embedding
from ldcq.diffusion.fast.split import SplitDenoiser

SHAPES = {
    "paper": (128, 32, 16, 8, 16, 32, 128),
    "demo": (64, 64, 64, 64),
    "one": (24,),
    "uneven": (16, 32, 8),
}
ROWS, STATE, LATENT, STEPS = 37, 4, 6, 11


def _denoiser(widths: tuple[int, ...], seed: int = 0) -> Denoiser:
    torch.manual_seed(seed)
    denoiser = Denoiser(STATE, LATENT, widths, condition_dim=20, time_dim=12)
    for name, parameter in denoiser.named_parameters():
        if name.endswith("bias") or "norm" in name:
            nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    return denoiser


@pytest.mark.parametrize("widths", SHAPES.values(), ids=SHAPES)
@torch.no_grad()
def test_split_equals_plain(widths: tuple[int, ...]) -> None:
    denoiser = _denoiser(widths)
    split = SplitDenoiser(denoiser, STEPS)
    latent, states = torch.randn(ROWS, LATENT), torch.randn(ROWS, STATE)
    for time in (1, 5, STEPS):
        plain = denoiser(latent, states, torch.full((ROWS,), time))
        apart = split(latent, split.condition(states), time)
        torch.testing.assert_close(apart, plain, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_split_null_equals_plain_with_nothing_kept() -> None:
    denoiser = _denoiser(SHAPES["paper"])
    split = SplitDenoiser(denoiser, STEPS)
    latent, states = torch.randn(ROWS, LATENT), torch.randn(ROWS, STATE)
    plain = denoiser(latent, states, torch.full((ROWS,), 3), torch.zeros(ROWS))
    torch.testing.assert_close(
        split(latent, split.null_condition(), 3), plain, atol=1e-5, rtol=1e-5
    )


@torch.no_grad()
def test_null_is_not_the_mean_state() -> None:
    """States are standardised: a state of zeros is the mean state, and must not mean "no state"."""
    denoiser = _denoiser(SHAPES["demo"])
    latent, time = torch.randn(ROWS, LATENT), torch.full((ROWS,), 3)
    mean_state = torch.zeros(ROWS, STATE)
    nulled = denoiser(latent, mean_state, time, torch.zeros(ROWS))
    assert (denoiser(latent, mean_state, time) - nulled).abs().max() > 0.01
    other_state = denoiser(latent, torch.randn(ROWS, STATE), time, torch.zeros(ROWS))
    torch.testing.assert_close(other_state, nulled)


@torch.no_grad()
def test_rows_are_nulled_one_by_one() -> None:
    denoiser = _denoiser(SHAPES["demo"])
    latent, states, time = torch.randn(2, LATENT), torch.randn(2, STATE), torch.tensor([3, 3])
    both = denoiser(latent, states, time, torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(both[:1], denoiser(latent[:1], states[:1], time[:1]))
    alone = denoiser(latent[1:], states[1:], time[1:], torch.zeros(1))
    torch.testing.assert_close(both[1:], alone)


@torch.no_grad()
def test_split_keeps_its_weights_when_training_goes_on() -> None:
    denoiser = _denoiser(SHAPES["demo"])
    split = SplitDenoiser(denoiser, STEPS)
    latent, states = torch.randn(ROWS, LATENT), torch.randn(ROWS, STATE)
    before = split(latent, split.condition(states), 2)
    for parameter in denoiser.parameters():
        parameter.add_(1.0)
    torch.testing.assert_close(split(latent, split.condition(states), 2), before)


def test_every_parameter_is_used() -> None:
    denoiser = _denoiser(SHAPES["paper"])
    denoiser(
        torch.randn(ROWS, LATENT), torch.randn(ROWS, STATE), torch.arange(ROWS)
    ).sum().backward()
    unused = [name for name, p in denoiser.named_parameters() if p.grad is None or not p.grad.any()]
    assert not unused


def test_equal_widths_are_joined_from_the_outside_in() -> None:
    assert skip_sources(SHAPES["paper"]) == (None, None, None, None, 2, 1, 0)
    assert skip_sources((64, 64, 64, 64)) == (None, None, None, 0)
    assert skip_sources((16, 32, 8)) == (None, None, None)


def test_time_embedding_tells_all_times_apart() -> None:
    embedded = time_embedding(torch.arange(1, 501), 64)
    assert embedded.shape == (500, 64)
    distances = torch.cdist(embedded, embedded) + 10 * torch.eye(500)
    assert distances.min() > 0.01
    torch.testing.assert_close(embedded[2, 0], torch.tensor(3.0).sin())
    torch.testing.assert_close(embedded[2, 32], torch.tensor(3.0).cos())
