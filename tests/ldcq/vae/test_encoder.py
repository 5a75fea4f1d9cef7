"""The encoders and the conditional prior."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ldcq.vae.conditional_prior import ConditionalPrior
from ldcq.vae.encoder import MIN_LATENT_STD, GruEncoder, make_encoder

HORIZON, FEATURES, LATENT = 6, 5, 3


@pytest.mark.parametrize("name", ["gru", "mlp"])
def test_every_step_and_feature_of_the_window_reaches_mean_and_std(name: str) -> None:
    torch.manual_seed(0)
    encoder = make_encoder(name, FEATURES, HORIZON, 16, LATENT)
    window = torch.randn(4, HORIZON, FEATURES, requires_grad=True)
    posterior = encoder(window)
    assert posterior.mean.shape == posterior.std.shape == (4, LATENT)
    for output in posterior:
        (gradient,) = torch.autograd.grad(output.sum(), window, retain_graph=True)
        assert (gradient != 0).all()


def test_both_directions_of_the_gru_have_seen_the_whole_window() -> None:
    torch.manual_seed(0)
    encoder = GruEncoder(FEATURES, 8, LATENT)
    window = torch.randn(1, HORIZON, FEATURES, requires_grad=True)
    _, final = encoder.gru(window)
    for direction in (final[-2], final[-1]):
        (gradient,) = torch.autograd.grad(direction.sum(), window, retain_graph=True)
        assert (gradient != 0).all()
    assert encoder.gru.num_layers == 2
    seen: list[torch.Tensor] = []
    encoder.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(window)
    torch.testing.assert_close(seen[0], torch.cat([final[-2], final[-1]], dim=-1))


def test_the_std_is_floored_where_softplus_underflows() -> None:
    encoder = make_encoder("mlp", FEATURES, HORIZON, 8, LATENT)
    last = encoder.head.raw_std[-1]
    assert isinstance(last, nn.Linear)
    nn.init.constant_(last.bias, -1000.0)
    std = encoder(torch.randn(2, HORIZON, FEATURES)).std
    torch.testing.assert_close(std, torch.full_like(std, MIN_LATENT_STD))


def test_conditional_prior_depends_on_the_state() -> None:
    torch.manual_seed(0)
    prior = ConditionalPrior(4, 16, LATENT)
    gaussian = prior(torch.randn(2, 4))
    assert gaussian.mean.shape == gaussian.std.shape == (2, LATENT)
    assert not torch.allclose(gaussian.mean[0], gaussian.mean[1])
    assert (gaussian.std > 0).all()


def test_an_unknown_encoder_is_named() -> None:
    with pytest.raises(ValueError, match=r"vae\.encoder: got 'rnn'"):
        make_encoder("rnn", FEATURES, HORIZON, 8, LATENT)
