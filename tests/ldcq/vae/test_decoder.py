"""The low-level policy against plain loops and torch.distributions."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal
from torch.nn import functional

from ldcq.nn.model import Dimensions
from ldcq.vae.decoder import (
    AutoregressiveGaussianDecoder,
    CategoricalDecoder,
    IndependentGaussianDecoder,
    make_decoder,
)

STATE, LATENT, ACTION, HIDDEN, MIN_STD = 5, 3, 4, 16, 0.05


@pytest.fixture
def decoder() -> AutoregressiveGaussianDecoder:
    torch.manual_seed(0)
    made = AutoregressiveGaussianDecoder(STATE, LATENT, ACTION, HIDDEN, MIN_STD)
    made.bound([-1.0] * ACTION, [1.0] * ACTION)
    return made


def batch(rows: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    actions = torch.randn(rows, ACTION, generator=generator).clamp(-1, 1)
    return (
        torch.randn(rows, STATE, generator=generator),
        torch.randn(rows, LATENT, generator=generator),
        actions,
    )


def one_dimension(decoder: AutoregressiveGaussianDecoder, index: int, inputs: Tensor) -> Normal:
    """The network of one action dimension as A.2.1 describes it, layer by layer."""
    width = STATE + LATENT + index
    assert inputs.shape[1] == width
    network = decoder.get_submodule(f"elements.{index}")
    weights = dict(network.named_parameters())

    def layer(values: Tensor, name: str, rows: slice = slice(None)) -> Tensor:
        return values @ weights[f"{name}.weight"][rows].T + weights[f"{name}.bias"][rows]

    features = functional.relu(layer(functional.relu(layer(inputs, "trunk.0")), "trunk.2"))
    outputs = []
    for head, name in enumerate(("mean", "std")):
        own = slice(head * HIDDEN, (head + 1) * HIDDEN)
        hidden = functional.relu(layer(features, "trunk.4", own))
        outputs.append(layer(hidden, name)[:, 0])
    return Normal(outputs[0], functional.softplus(outputs[1]) + MIN_STD)


def normal_log_prob(normal: Normal, values: Tensor) -> Tensor:
    result: Tensor = normal.log_prob(values)  # type: ignore[no-untyped-call]
    return result


def test_log_prob_equals_the_networks_layer_by_layer(
    decoder: AutoregressiveGaussianDecoder,
) -> None:
    states, latents, actions = batch()
    expected = torch.zeros(len(states))
    for index in range(ACTION):
        inputs = torch.cat([states, latents, actions[:, :index]], dim=1)
        network = one_dimension(decoder, index, inputs)
        expected = expected + normal_log_prob(network, actions[:, index])
    torch.testing.assert_close(decoder.log_prob(states, latents, actions), expected)


def test_gradients_equal_those_of_the_networks_layer_by_layer(
    decoder: AutoregressiveGaussianDecoder,
) -> None:
    states, latents, actions = batch()
    loop = torch.zeros(())
    for index in range(ACTION):
        inputs = torch.cat([states, latents, actions[:, :index]], dim=1)
        network = one_dimension(decoder, index, inputs)
        loop = loop + normal_log_prob(network, actions[:, index]).sum()
    expected = torch.autograd.grad(loop, list(decoder.parameters()))
    given = torch.autograd.grad(
        decoder.log_prob(states, latents, actions).sum(), list(decoder.parameters())
    )
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().sum() > 0


def test_leading_shapes_are_kept(decoder: AutoregressiveGaussianDecoder) -> None:
    states, latents, actions = batch(6)
    flat = decoder.log_prob(states, latents, actions)
    shaped = decoder.log_prob(states.view(2, 3, -1), latents.view(2, 3, -1), actions.view(2, 3, -1))
    torch.testing.assert_close(shaped, flat.view(2, 3))


def test_an_element_depends_on_the_elements_before_it_only(
    decoder: AutoregressiveGaussianDecoder,
) -> None:
    states, latents, actions = batch(1)
    actions = actions.requires_grad_(True)
    mean = decoder.distribution(states, latents, actions).mean[0]
    for index in range(ACTION):
        (gradient,) = torch.autograd.grad(mean[index], actions, retain_graph=True)
        assert (gradient[0, :index] != 0).all()
        assert (gradient[0, index:] == 0).all()


def test_the_mode_is_each_networks_mean_given_the_elements_chosen(
    decoder: AutoregressiveGaussianDecoder,
) -> None:
    states, latents, _ = batch()
    chosen = torch.zeros(len(states), 0)
    for index in range(ACTION):
        mean = one_dimension(decoder, index, torch.cat([states, latents, chosen], dim=1)).mean
        chosen = torch.cat([chosen, mean.clamp(-1, 1).unsqueeze(1)], dim=1)
    torch.testing.assert_close(decoder.act(states, latents, None), chosen)


def test_samples_have_the_moments_of_the_first_network_and_repeat_with_the_seed() -> None:
    torch.manual_seed(0)
    wide = AutoregressiveGaussianDecoder(STATE, LATENT, ACTION, HIDDEN, MIN_STD)
    states, latents, _ = batch(1)
    many = states.expand(20_000, -1), latents.expand(20_000, -1)
    with torch.no_grad():
        sampled = wide.act(*many, torch.Generator().manual_seed(3))
        again = wide.act(*many, torch.Generator().manual_seed(3))
        expected = one_dimension(wide, 0, torch.cat([states, latents], dim=1))
    assert torch.equal(sampled, again)
    assert sampled[:, 0].mean().item() == pytest.approx(expected.mean.item(), abs=0.03)
    assert sampled[:, 0].std().item() == pytest.approx(expected.stddev.item(), rel=0.03)


@pytest.mark.parametrize("seed", [None, 0])
def test_actions_stay_in_the_action_space(
    decoder: AutoregressiveGaussianDecoder, seed: int | None
) -> None:
    with torch.no_grad():
        for index in range(ACTION):
            decoder.get_parameter(f"elements.{index}.mean.bias").fill_(5.0)
    low, high = torch.tensor([-0.5, -1, -2, 0]), torch.tensor([0.5, 1, 2, 0.1])
    decoder.bound(low.tolist(), high.tolist())
    states, latents, _ = batch()
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    actions = decoder.act(states, latents, generator)
    assert (actions >= low).all()
    assert (actions <= high).all()
    assert (actions == high).any()


@pytest.mark.parametrize(("low", "high"), [(-100, 100), (-1e-3, 1e-3), (995, 1005), (-3, 1)])
def test_the_unit_of_actions_does_not_matter(
    decoder: AutoregressiveGaussianDecoder, low: float, high: float
) -> None:
    states, latents, actions = batch()
    centre, half = (low + high) / 2, (high - low) / 2
    other = copy.deepcopy(decoder)
    other.bound([low] * ACTION, [high] * ACTION)
    scaled = centre + half * actions
    # What is left of 1000.001 in single precision decides how near they come.
    torch.testing.assert_close(other.features(scaled), actions, rtol=1e-3, atol=1e-3)
    expected = decoder.log_prob(states, latents, actions)
    found = other.log_prob(states, latents, scaled)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    chosen = centre + half * decoder.act(states, latents, None)
    torch.testing.assert_close(other.act(states, latents, None), chosen)


def test_a_dimension_that_never_changes_stays_as_it_is(
    decoder: AutoregressiveGaussianDecoder,
) -> None:
    decoder.bound([2.0] * ACTION, [2.0] * ACTION)
    states, latents, _ = batch()
    assert (decoder.act(states, latents, None) == 2).all()
    assert decoder.log_prob(states, latents, torch.full((7, ACTION), 2.0)).isfinite().all()


@pytest.fixture
def independent() -> IndependentGaussianDecoder:
    torch.manual_seed(0)
    made = make_decoder(
        Dimensions(state=STATE, action=ACTION, latent=LATENT), "independent", HIDDEN, MIN_STD
    )
    assert isinstance(made, IndependentGaussianDecoder)
    made.bound([-2.0, 0.0, -1.0, -1.0], [2.0, 1.0, 1.0, 1.0])
    return made


def test_independent_elements_have_the_density_of_one_network(
    independent: IndependentGaussianDecoder,
) -> None:
    states, latents, actions = batch()
    half, centre = torch.tensor([2.0, 0.5, 1.0, 1.0]), torch.tensor([0.0, 0.5, 0.0, 0.0])
    weights = dict(independent.named_parameters())
    hidden = torch.cat([states, latents], dim=1)
    for layer in (0, 3, 6):
        hidden = functional.linear(
            hidden, weights[f"network.{layer}.weight"], weights[f"network.{layer}.bias"]
        )
        scale, shift = (weights[f"network.{layer + 1}.{part}"] for part in ("weight", "bias"))
        hidden = functional.gelu(functional.layer_norm(hidden, (HIDDEN,), scale, shift))
    outputs = hidden @ weights["network.9.weight"].T + weights["network.9.bias"]
    mean = outputs[:, :ACTION].tanh()
    normal = Normal(mean, functional.softplus(outputs[:, ACTION:]) + MIN_STD)
    expected = normal_log_prob(normal, (actions - centre) / half).sum(dim=1)
    torch.testing.assert_close(independent.log_prob(states, latents, actions), expected)
    chosen = independent.act(states, latents, None)
    torch.testing.assert_close(chosen, centre + half * mean)


def test_a_mean_without_a_range_is_not_bounded() -> None:
    made = IndependentGaussianDecoder(STATE, LATENT, ACTION, HIDDEN, MIN_STD)
    made.bound([-1.0, -1.0, -torch.inf, -torch.inf], [1.0, 1.0, torch.inf, torch.inf])
    states, latents, actions = batch(200)
    with torch.no_grad():
        made.get_submodule("network.9").get_parameter("weight").mul_(20)
    means = made.distribution(states, latents, actions).mean
    assert (means[:, :2].abs() <= 1).all()
    assert (means[:, 2:].abs() > 1).any()


def test_independent_actions_are_drawn_around_the_mode_and_inside_the_range(
    independent: IndependentGaussianDecoder,
) -> None:
    states, latents, _ = (part[:1].expand(4000, -1) for part in batch(1))
    drawn = independent.act(states, latents, torch.Generator().manual_seed(0))
    again = independent.act(states, latents, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    assert (drawn >= independent.low).all()
    assert (drawn <= independent.high).all()
    free = ((drawn > independent.low) & (drawn < independent.high)).float().mean()
    assert 0.2 < free < 1.0, "both the clamp and the density are seen"


def test_std_never_falls_below_its_floor(decoder: AutoregressiveGaussianDecoder) -> None:
    with torch.no_grad():
        for index in range(ACTION):
            decoder.get_parameter(f"elements.{index}.std.bias").fill_(-1000.0)
    std = decoder.distribution(*batch()).std
    torch.testing.assert_close(std, torch.full_like(std, MIN_STD))


def test_discrete_log_prob_against_torch_distributions() -> None:
    torch.manual_seed(0)
    size = Dimensions(state=STATE, action=1, latent=LATENT, discrete_actions=6)
    decoder = make_decoder(size, "autoregressive", HIDDEN, MIN_STD)
    decoder.bound([0], [5])
    assert isinstance(decoder, CategoricalDecoder)
    states, latents, _ = batch(6)
    indices = torch.arange(6).unsqueeze(1)
    expected = Categorical(logits=decoder.logits(torch.cat([states, latents], dim=1)))
    torch.testing.assert_close(
        decoder.log_prob(states, latents, indices),
        expected.log_prob(indices[:, 0]),  # type: ignore[no-untyped-call]
    )


def test_discrete_actions_are_indices_of_the_mode_or_drawn_by_probability() -> None:
    torch.manual_seed(0)
    decoder = CategoricalDecoder(STATE, LATENT, 3, HIDDEN)
    states, latents, _ = batch(1)
    many = states.expand(20_000, -1), latents.expand(20_000, -1)
    with torch.no_grad():
        probabilities = decoder.logits(torch.cat([states, latents], dim=1)).softmax(dim=1)[0]
        mode = decoder.act(states, latents, None)
        sampled = decoder.act(*many, torch.Generator().manual_seed(0))
    assert mode.shape == (1, 1)
    assert mode.dtype == torch.int64
    assert mode.item() == probabilities.argmax().item()
    frequencies = sampled[:, 0].bincount(minlength=3) / len(sampled)
    torch.testing.assert_close(frequencies, probabilities, atol=0.02, rtol=0)


def test_bounds_of_the_wrong_length_are_refused(decoder: AutoregressiveGaussianDecoder) -> None:
    with pytest.raises(ValueError, match="got 2 and 2 values, expected 4"):
        decoder.bound([-1, -1], [1, 1])
