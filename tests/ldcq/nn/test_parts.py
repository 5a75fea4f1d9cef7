"""MLPs, normalisation and Gaussian heads."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal

from ldcq.nn.distributions import Gaussian, GaussianHead, log_density
from ldcq.nn.mlp import mlp
from ldcq.nn.normaliser import Normaliser


def test_mlp_has_norm_and_activation_between_layers_and_a_linear_end() -> None:
    layers = [type(layer) for layer in mlp([3, 4, 5, 1], nn.GELU, layer_norm=True)]
    hidden = [nn.Linear, nn.LayerNorm, nn.GELU]
    assert layers == [*hidden, *hidden, nn.Linear]


def test_mlp_refuses_a_single_size() -> None:
    with pytest.raises(ValueError, match=r"got \[3\]"):
        mlp([3])


def test_normaliser_standardises_and_its_inverse_returns() -> None:
    values = torch.randn(500, 3) * torch.tensor([0.1, 1, 100]) + torch.tensor([5.0, 0, -7])
    normaliser = Normaliser(values.mean(dim=0), values.std(dim=0))
    standardised = normaliser(values)
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(standardised.std(dim=0), torch.ones(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(normaliser.inverse(standardised), values, atol=1e-4, rtol=1e-4)


def test_normaliser_divides_a_constant_dimension_by_one_and_is_saved() -> None:
    normaliser = Normaliser.of(torch.tensor([2.0, 5.0]), torch.tensor([0.0, 4.0]))
    assert normaliser(torch.tensor([[2.0, 1.0]])).tolist() == [[0, -1]]
    assert normaliser(torch.tensor([[2.001, 9.0]]))[0].tolist() == pytest.approx([0.001, 1], 1e-3)
    restored = Normaliser.identity(2)
    restored.load_state_dict(normaliser.state_dict())
    assert torch.equal(restored.mean, torch.tensor([2.0, 5.0]))
    with pytest.raises(ValueError, match=r"std: got 0, expected positive .*`Normaliser\.of`"):
        Normaliser(torch.tensor([2.0]), torch.tensor([0.0]))


def test_normaliser_refuses_mismatched_statistics() -> None:
    with pytest.raises(ValueError, match="expected"):
        Normaliser(torch.zeros(2), torch.ones(3))


def test_log_density_against_torch_distributions() -> None:
    mean, std, values = torch.randn(4, 3), torch.rand(4, 3) + 0.1, torch.randn(4, 3)
    torch.testing.assert_close(
        log_density(values, Gaussian(mean, std)),
        Normal(mean, std).log_prob(values),  # type: ignore[no-untyped-call]
    )


def test_gaussian_head_gives_a_positive_std_even_where_softplus_underflows() -> None:
    head = GaussianHead(4, 8, 2, 1e-4)
    last = head.raw_std[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.bias.fill_(-500.0)
    gaussian = head(torch.randn(5, 4))
    assert (gaussian.std > 0).all()
    noise = torch.randn(5, 2)
    torch.testing.assert_close(gaussian.sample(noise), gaussian.mean + 1e-4 * noise)
