"""The diffusion prior: its objective, its guidance and what it samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from common.models import model_of, parts_of
from common.store import Artifact
from ldcq.config import SamplingConfig
from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast.fused import freeze
from ldcq.diffusion.fast.split import Condition, FrozenDenoiser, SplitDenoiser
from ldcq.diffusion.prior import DiffusionPrior
from ldcq.diffusion.schedule import min_snr_weights
from ldcq.latent_prior import OptionError
from ldcq.prior import Batch
from ldcq.prior_learner import PriorLearner
from ldcq.randomness import BLOCK_ROWS, block_generator
from tests.draws import latents
from tests.services.prior.world import (
    LATENT,
    STATE,
    small_config,
    some_prior,
    some_statistics,
    two_modes,
)

SEED = 2**63 + 5


def _prior(**options: object) -> DiffusionPrior:
    prior = some_prior(small_config(options=options))
    assert isinstance(prior, DiffusionPrior)
    return prior


def _states(count: int) -> Tensor:
    return torch.randn(count, STATE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def _algorithm_1(prior: DiffusionPrior, states: Tensor, n: int, options: SamplingConfig) -> Tensor:
    """Lines 5-9 written out from the paper, with the plain network and one block of noise."""
    statistics, noise = some_statistics(), block_generator(SEED, 0, torch.device("cpu"))
    mean, std = torch.from_numpy(statistics.state_mean), torch.from_numpy(statistics.state_std)
    state = ((states - mean) / std).repeat_interleave(n, dim=0)
    rows, alpha_bar = len(state), prior.alpha_bar
    w, temperature = options.guidance or 0.0, options.temperature or 0.0

    def predict(z: Tensor, t: int) -> Tensor:
        time = torch.full((rows,), t)
        null = prior.denoiser(z, state, time, torch.zeros(rows))
        guided: Tensor = null + w * (prior.denoiser(z, state, time) - null)
        clip = prior.options.clip_sample
        return guided if clip is None else guided.clamp(-clip, clip)

    z = torch.empty(rows, LATENT).normal_(generator=noise) * temperature
    for t in range(prior.options.steps, 0, -1):
        alpha = alpha_bar[t] / alpha_bar[t - 1]
        z = (
            np.sqrt(alpha) * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * z
            + np.sqrt(alpha_bar[t - 1]) * (1 - alpha) / (1 - alpha_bar[t]) * predict(z, t)
        ).float()
        if t > 1:
            eps = torch.empty(rows, LATENT).normal_(generator=noise)
            z = z + float(np.sqrt(1 - alpha)) * temperature * eps
    for _ in range(options.extra_steps or 0):
        z = predict(z, 1)
    raw = z * torch.from_numpy(statistics.latent_std) + torch.from_numpy(statistics.latent_mean)
    return raw.reshape(len(states), n, LATENT)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"guidance": 0.0},
        {"guidance": 3.0},
        {"guidance": 0.4, "temperature": 0.5},
        {"extra_steps": 4},
        {"temperature": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("denoiser", [freeze, SplitDenoiser])
def test_sampling_is_algorithm_1(
    given: dict[str, float],
    clip: float | None,
    denoiser: Callable[[Denoiser, int], FrozenDenoiser],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ldcq.diffusion.fast.fastest.freeze", denoiser)
    prior = _prior(clip_sample=clip)
    base = {"steps": 20, "guidance": 1.0, "extra_steps": 0, "temperature": 1.0}
    options = SamplingConfig.model_validate({**base, **given})
    drawn = latents(prior.sampler(), _states(3), 4, options, SEED)
    torch.testing.assert_close(
        drawn, _algorithm_1(prior, _states(3), 4, options), atol=1e-4, rtol=1e-4
    )


def test_guidance_changes_samples() -> None:
    sampler = _prior().sampler()
    drawn = {w: latents(sampler, _states(8), 4, SamplingConfig(guidance=w), 0) for w in (0, 1, 3)}
    assert (drawn[1] - drawn[3]).abs().max() > 0.01
    assert (drawn[0] - drawn[1]).abs().max() > 0.01


def test_guidance_zero_does_not_see_the_state() -> None:
    sampler = _prior().sampler()
    there, here = _states(2), _states(2) + 3
    for guidance, sees_the_state in ((0.0, False), (1.0, True)):
        options = SamplingConfig(guidance=guidance)
        first, second = (latents(sampler, states, 4, options, 0) for states in (there, here))
        assert torch.equal(first, second) is not sees_the_state


def test_unguided_sampling_runs_one_half_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ldcq.diffusion.fast.fastest.freeze", SplitDenoiser)
    sampler = _prior().sampler()
    calls: list[int] = []
    predict = SplitDenoiser.__call__

    def counted(self: SplitDenoiser, latent: Tensor, condition: Condition, time: int) -> Tensor:
        calls.append(time)
        return predict(self, latent, condition, time)

    monkeypatch.setattr(SplitDenoiser, "__call__", counted)
    for guidance, passes in ((1.0, 7), (0.0, 7), (2.0, 14)):
        calls.clear()
        options = SamplingConfig(steps=5, guidance=guidance, extra_steps=2)
        latents(sampler, _states(1), 1, options, 0)
        assert len(calls) == passes
        assert sampler.passes(sampler.resolve(options)) == 7


def test_long_calls_do_not_change_their_first_rows() -> None:
    """Every block has its own noise: rows do not depend on how many follow."""
    sampler = _prior().sampler()
    long = latents(sampler, _states(3), BLOCK_ROWS, SamplingConfig(), 5)
    short = latents(sampler, _states(2), BLOCK_ROWS, SamplingConfig(), 5)
    assert torch.equal(long[:2], short)
    assert not torch.equal(long[0], long[1])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"solver": "euler"}, "solver is 'euler', expected one of ddpm, ddim, dpmpp_2m"),
        ({"steps": 21}, "steps is 21, expected 1 to 20"),
        ({"steps": 0}, "steps is 0, expected 1 to 20"),
        ({"extra_steps": -1}, "extra_steps is -1, expected 0 to 1000"),
        ({"guidance": float("nan")}, "guidance is nan, expected a finite number"),
        ({"temperature": -1.0}, "temperature is -1.0, expected a finite number"),
    ],
    ids=str,
)
def test_impossible_options_name_the_field(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        _prior().sampler().resolve(SamplingConfig.model_construct(**given))


def test_options_left_out_are_the_models_defaults() -> None:
    sampler = _prior().sampler()
    defaults = sampler.describe().defaults
    assert defaults.model_dump() == {
        "solver": "ddpm",
        "steps": 5,
        "guidance": 1.0,
        "nulled": "state",
        "extra_steps": 0,
        "temperature": 1.0,
    }
    left_out = latents(sampler, _states(2), 3, SamplingConfig(), 0)
    assert torch.equal(left_out, latents(sampler, _states(2), 3, defaults, 0))


def _batch(rows: int) -> Batch:
    """Latents whose q has the statistics the prior standardises by: mean and spread half each."""
    statistics, random = some_statistics(), torch.Generator().manual_seed(3)
    std = torch.from_numpy(statistics.latent_std) * 0.5**0.5
    mean = torch.from_numpy(statistics.latent_mean) + std * torch.randn(
        rows, LATENT, generator=random
    )
    return Batch(torch.randn(rows, STATE, generator=random), mean, std.expand(rows, -1))


def test_loss_is_equation_5(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that says 0 errs by ||z_0||^2 / Z = 1, so the loss is the mean weight."""
    prior = _prior()
    monkeypatch.setattr(prior.denoiser, "forward", lambda z, *_: torch.zeros_like(z))
    loss = prior.loss(_batch(20_000), torch.Generator().manual_seed(0))
    expected = min_snr_weights(prior.alpha_bar, prior.options.min_snr_gamma).mean()
    assert float(loss) == pytest.approx(expected, rel=0.05)


def test_loss_diffuses_standardised_latents_and_nulls_some_states(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prior = _prior(drop_probability=0.25)
    seen: dict[str, Tensor] = {}

    def look(z: Tensor, states: Tensor, time: Tensor, keep: Tensor, *_: None) -> Tensor:
        seen.update(z=z, states=states, time=time, keep=keep)
        return torch.zeros_like(z)

    monkeypatch.setattr(prior.denoiser, "forward", look)
    batch = _batch(20_000)
    prior.loss(batch, torch.Generator().manual_seed(0))
    # Whatever alpha_bar_t is, a standardised latent stays so.
    torch.testing.assert_close(seen["z"].mean(0), torch.zeros(LATENT), atol=0.03, rtol=0)
    torch.testing.assert_close(seen["z"].std(0), torch.ones(LATENT), atol=0.03, rtol=0)
    assert set(seen["time"].tolist()) == set(range(1, 21))
    assert float(seen["keep"].mean()) == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(seen["states"], prior.state_normaliser(batch.states))


def test_latents_are_drawn_anew() -> None:
    batch, random = _batch(4), torch.Generator().manual_seed(0)
    first, second = batch.draw(random), batch.draw(random)
    assert not torch.equal(first, second)
    flat = Batch(batch.states, batch.latent_mean, torch.zeros_like(batch.latent_std))
    assert torch.equal(flat.draw(random), batch.latent_mean)


def test_artifact_samples_as_the_model_did() -> None:
    prior = _prior(clip_sample=2.0)
    again = model_of(Artifact("p", *parts_of(prior)), DiffusionPrior)
    drawn = latents(prior.sampler(), _states(3), 5, SamplingConfig(), 9)
    assert torch.equal(drawn, latents(again.sampler(), _states(3), 5, SamplingConfig(), 9))


def test_covers_both_modes_after_training() -> None:
    """Trained for seconds on two modes, samples come from both and from nowhere between."""
    config = small_config(
        epochs=35,
        schedule="one_cycle",
        batch_size=512,
        learning_rate=6e-3,
        ema_decay=0.98,
        options={
            "steps": 20,
            "schedule": "cosine",
            "blocks": [48, 48],
            "condition_dim": 32,
            "time_dim": 16,
        },
    )
    learner = PriorLearner(config, two_modes(6000), torch.device("cpu"))
    for step in range(learner.total):
        learner.update(step)
    state = torch.tensor([[2.0, 4.0, 4.0], [6.0, 4.0, 4.0]])
    drawn = latents(learner.published.sampler(), state, 1000, SamplingConfig(steps=20), 0)
    offset = drawn[..., 0] - 2 * state[:, :1]
    upper = (offset > 0).float().mean(dim=1)
    assert upper.min() > 0.35
    assert upper.max() < 0.65
    assert float(((offset.abs() - 3).abs() > 1.5).float().mean()) < 0.15
    torch.testing.assert_close(offset.abs().mean(dim=1), torch.full((2,), 3.0), atol=0.4, rtol=0)
    torch.testing.assert_close(drawn[..., 1].mean(), torch.tensor(5.0), atol=0.1, rtol=0)
