"""Goal-conditioned priors: the network against one in NumPy, guidance, training, artifacts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.models import model_of, parts_of
from common.store import Artifact
from ldcq.config import Config, ConfigError, SamplingConfig
from ldcq.data.latents import LatentTable
from ldcq.diffusion.denoiser import Denoiser, skip_sources
from ldcq.diffusion.fast import kernel
from ldcq.diffusion.fast.fused import FusedDenoiser, freeze
from ldcq.diffusion.fast.split import FrozenDenoiser, Nulled, SplitDenoiser
from ldcq.diffusion.prior import DiffusionPrior
from ldcq.latent_prior import OptionError
from ldcq.prior import Batch, JoiningSampler
from ldcq.prior_learner import PriorLearner
from ldcq.randomness import block_generator
from tests.draws import draw, latents
from tests.services.prior.world import (
    LATENT,
    STATE,
    goal_config,
    small_config,
    some_prior,
    some_statistics,
    two_modes,
)

Array = NDArray[Any]
GOALS = 2
SEED = 2**63 + 5
FREEZE: dict[str, Callable[[Denoiser, int], FrozenDenoiser]] = {
    "fused": freeze,
    "split": SplitDenoiser,
}


def _prior(**prior: Any) -> DiffusionPrior:
    made = some_prior(goal_config(**prior))
    assert isinstance(made, DiffusionPrior)
    return made


def _rows(count: int, width: int, seed: int = 1) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


class Oracle:
    """mu_psi(z, s, g, t) of A.2.2 in NumPy, written from the paper."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.weights = {k: v.double().numpy() for k, v in denoiser.state_dict().items()}
        self.widths, self.time_dim = denoiser.widths, denoiser.time_dim

    def linear(self, name: str, x: Array) -> Array:
        out: Array = x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return out

    def norm(self, name: str, x: Array) -> Array:
        centred = x - x.mean(1, keepdims=True)
        scaled = centred / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        out: Array = scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return out

    def two_layers(self, name: str, x: Array) -> Array:
        return self.linear(f"{name}.2", _gelu(self.linear(f"{name}.0", x)))

    def __call__(self, z: Array, state: Array, goal: Array, t: int) -> Array:
        """`state` and `goal` with NaN where they are nulled."""
        parts = []
        for name, given in (("encode_state", state), ("encode_goal", goal)):
            nulled = np.isnan(given).any(1, keepdims=True)
            parts.append(np.where(nulled, 0, self.two_layers(name, np.nan_to_num(given))))
        half = self.time_dim // 2
        angles = t * 10_000.0 ** (-np.arange(half) / (half - 1))
        times = np.concatenate([np.sin(angles), np.cos(angles)])[None]
        time = _gelu(self.two_layers("encode_time.0", times))
        outputs: list[Array] = []
        before = z.shape[1]
        for i, (width, skip) in enumerate(zip(self.widths, skip_sources(self.widths), strict=True)):
            z = self.linear(f"resize.{i}", z) if i == 0 or before != width else z
            z = z if skip is None else z + outputs[skip]
            block = f"blocks.{i}"
            scale, shift = np.split(self.linear(f"{block}.film", time), 2, axis=1)
            joined = np.concatenate([z, *parts], axis=1)
            hidden = self.norm(f"{block}.first_norm", self.linear(f"{block}.first", joined))
            hidden = self.linear(f"{block}.second", _gelu(hidden * (1 + scale) + shift))
            z = z + self.norm(f"{block}.second_norm", hidden)
            outputs.append(z)
            before = width
        return self.linear("last", self.norm("last_norm", z))

    def guided(
        self, z: Array, state: Array, goal: Array, t: int, w: float, nulled: Nulled
    ) -> Array:
        no_state, no_goal = nulled in ("state", "both"), nulled in ("goal", "both")
        null = self(
            z,
            np.full_like(state, np.nan) if no_state else state,
            np.full_like(goal, np.nan) if no_goal else goal,
            t,
        )
        return null + w * (self(z, state, goal, t) - null)


def _gelu(x: Array) -> Array:
    erf = torch.erf(torch.from_numpy(x / np.sqrt(2))).numpy()
    return cast(Array, 0.5 * x * (1 + erf))


@pytest.mark.parametrize("nulled", ["state", "goal", "both"])
@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.0, 0.3])
@pytest.mark.parametrize("rows", [1, 77])
@pytest.mark.parametrize("compiled", FREEZE)
@torch.no_grad()
def test_the_network_is_the_oracles(
    rows: int, guidance: float, nulled: Nulled, compiled: str
) -> None:
    denoiser = _prior().denoiser
    oracle, frozen = Oracle(denoiser), FREEZE[compiled](denoiser, 20)
    latent, state, goal = _rows(rows, LATENT), _rows(rows, STATE, 2), _rows(rows, GOALS, 3)
    for t in (1, 7, 20):
        expected = oracle.guided(
            latent.double().numpy(),
            state.double().numpy(),
            goal.double().numpy(),
            t,
            guidance,
            nulled,
        )
        condition = frozen.prepare(frozen.condition(state, goal, nulled))
        found = frozen.predict(latent, condition, t, guidance)
        np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)
        plain = denoiser(latent, state, torch.full((rows,), t), goal=goal)
        everything = oracle(
            latent.double().numpy(), state.double().numpy(), goal.double().numpy(), t
        )
        np.testing.assert_allclose(plain, everything, atol=2e-5, rtol=2e-5)


@torch.no_grad()
def test_rows_are_nulled_one_by_one_and_apart() -> None:
    denoiser = _prior().denoiser
    oracle, nan = Oracle(denoiser), np.nan
    latent, state, goal = _rows(4, LATENT), _rows(4, STATE, 2), _rows(4, GOALS, 3)
    keep, keep_goal = torch.tensor([1.0, 1, 0, 0]), torch.tensor([1.0, 0, 1, 0])
    found = denoiser(latent, state, torch.full((4,), 5), keep, goal, keep_goal)
    states = np.where(keep[:, None] == 1, state.double(), nan)
    goals = np.where(keep_goal[:, None] == 1, goal.double(), nan)
    expected = oracle(latent.double().numpy(), states, goals, 5)
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("nulled", ["state", "goal", "both", None])
@pytest.mark.parametrize("compiled", FREEZE)
def test_sampling_is_algorithm_1(
    nulled: Nulled | None, compiled: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ldcq.diffusion.fast.fastest.freeze", FREEZE[compiled])
    prior, statistics = _prior(), some_statistics()
    w, n, states, goals = 2.5, 4, 5 * _rows(3, STATE), 5 * _rows(3, GOALS, 2)
    options = SamplingConfig(steps=20, guidance=w, nulled=nulled)
    drawn = latents(prior.sampler(), states, n, options, SEED, goals)

    state_mean, state_std = statistics.state_mean, statistics.state_std
    state = np.repeat((states.numpy() - state_mean) / state_std, n, axis=0).astype(np.float64)
    entries = [2, 0]  # goal_config's
    goal = (goals.numpy() - state_mean[entries]) / state_std[entries]
    goal = np.repeat(goal, n, axis=0).astype(np.float64)
    oracle, alpha_bar = Oracle(prior.denoiser), prior.alpha_bar
    noise = block_generator(SEED, 0, torch.device("cpu"))
    z = torch.empty(3 * n, LATENT).normal_(generator=noise).double().numpy()
    for t in range(20, 0, -1):
        alpha = alpha_bar[t] / alpha_bar[t - 1]
        clean = oracle.guided(z, state, goal, t, w, nulled or "goal")
        z = (
            np.sqrt(alpha) * (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * z
            + np.sqrt(alpha_bar[t - 1]) * (1 - alpha) / (1 - alpha_bar[t]) * clean
        )
        if t > 1:
            eps = torch.empty(3 * n, LATENT).normal_(generator=noise).double().numpy()
            z = z + np.sqrt(1 - alpha) * eps
    expected = z * statistics.latent_std + statistics.latent_mean
    np.testing.assert_allclose(drawn.reshape(3 * n, LATENT), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("guidance", [0.0, 2.0])
@torch.no_grad()
def test_a_row_depends_on_nothing_but_itself(guidance: float) -> None:
    """To the last bit, with a null condition of its own for every row, on any number of threads."""
    library = kernel.load()
    if library is None:
        pytest.skip("needs a C compiler")
    frozen = FusedDenoiser(_prior().denoiser, 20, library)
    latent = _rows(100, LATENT)
    parts = frozen.condition(_rows(100, STATE, 2), _rows(100, GOALS, 3), "goal")
    together = frozen.predict(latent, frozen.prepare(parts), 3, guidance)
    torch.set_num_threads(2)
    threaded = frozen.predict(latent, frozen.prepare(parts), 3, guidance)
    torch.set_num_threads(1)
    assert torch.equal(threaded, together)
    latent[50] = torch.nan
    moved = frozen.prepare(tuple(part[45:] for part in parts))
    found = frozen.predict(latent[45:], moved, 3, guidance)
    assert found[5].isnan().all()
    assert torch.equal(found[6:], together[51:])


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_joined_calls_get_the_bits_they_get_alone(guidance: float) -> None:
    sampler = _prior().sampler()
    assert isinstance(sampler, JoiningSampler)
    options = sampler.resolve(SamplingConfig(guidance=guidance, steps=5))
    draws = [
        draw(
            _rows(states, STATE, seed),
            n,
            seed=seed,
            options=options,
            goals=_rows(states, GOALS, 50 + seed),
        )
        for seed, (states, n) in enumerate([(1, 1), (3, 7), (1, 64)])
    ]
    with torch.inference_mode():
        joined = sampler.join(draws)
    alone = [torch.tensor(sampler.sample(one).latents) for one in draws]
    assert torch.equal(joined, torch.cat([rows.flatten(0, 1) for rows in alone]))


def test_what_is_nulled_is_not_seen() -> None:
    sampler, states, goals = _prior().sampler(), _rows(3, STATE), _rows(3, GOALS, 2)
    for nulled, sees_state, sees_goal in (
        ("goal", True, False),
        ("state", False, True),
        ("both", False, False),
    ):
        options = SamplingConfig.model_validate({"guidance": 0.0, "nulled": nulled})
        first = latents(sampler, states, 2, options, 0, goals)
        other_state = latents(sampler, states + 3, 2, options, 0, goals)
        other_goal = latents(sampler, states, 2, options, 0, goals + 3)
        assert torch.equal(first, other_state) is not sees_state
        assert torch.equal(first, other_goal) is not sees_goal


def test_guidance_nulls_the_goal_unless_it_is_told_otherwise() -> None:
    assert _prior().sampler().describe().defaults.nulled == "goal"
    given = {**small_config().prior.sampling.model_dump(), "nulled": "state"}
    assert _prior(sampling=given).sampler().describe().defaults.nulled == "state"
    plain = some_prior(small_config()).sampler()
    assert plain.describe().defaults.nulled == "state"
    with pytest.raises(OptionError, match="nulled is 'goal', expected state: this prior has no"):
        plain.resolve(SamplingConfig(nulled="goal"))
    nonsense = SamplingConfig.model_construct(nulled="time")
    with pytest.raises(OptionError, match="nulled is 'time', expected state, goal, both"):
        _prior().sampler().resolve(nonsense)


def _batch(rows: int) -> Batch:
    latents = _rows(rows, LATENT)
    return Batch(_rows(rows, STATE, 2), latents, 0 * latents, _rows(rows, GOALS, 3))


def test_state_and_goal_are_nulled_independently(monkeypatch: pytest.MonkeyPatch) -> None:
    prior = _prior(
        options={"drop_probability": 0.25},
        goal_drop_probability=0.5,
    )
    seen: dict[str, Tensor] = {}

    def look(z: Tensor, _s: Tensor, _t: Tensor, keep: Tensor, goals: Tensor, own: Tensor) -> Tensor:
        seen.update(keep=keep, goals=goals, own=own)
        return torch.zeros_like(z)

    monkeypatch.setattr(prior.denoiser, "forward", look)
    batch = _batch(20_000)
    prior.loss(batch, torch.Generator().manual_seed(0))
    assert float(seen["keep"].mean()) == pytest.approx(0.75, abs=0.02)
    assert float(seen["own"].mean()) == pytest.approx(0.5, abs=0.02)
    assert float((seen["keep"] * seen["own"]).mean()) == pytest.approx(0.375, abs=0.02)
    statistics = some_statistics()
    expected = (batch.goals.numpy() - statistics.state_mean[[2, 0]]) / statistics.state_std[[2, 0]]  # type: ignore[union-attr]
    np.testing.assert_allclose(seen["goals"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("implementation", ["diffusion", "gaussian"])
def test_artifact_samples_as_the_model_did(implementation: str) -> None:
    prior = some_prior(goal_config(implementation=implementation))
    again = model_of(Artifact("p", *parts_of(prior)), type(prior))
    drawn, redrawn = (
        latents(one.sampler(), _rows(3, STATE), 5, SamplingConfig(), 9, _rows(3, GOALS))
        for one in (prior, again)
    )
    assert torch.equal(drawn, redrawn)


def test_a_prior_without_goals_has_the_weights_it_had() -> None:
    """Nothing of goals is in its artifact."""
    assert not [name for name in some_prior(small_config()).state_dict() if "goal" in name]


def _sides(rows: int) -> LatentTable:
    """Which of the two modes a window has can be told from its only goal, never from its state."""
    table = two_modes(rows)
    side = np.sign(table.latent_mean[:, 0] - 2 * table.state[:, 0])
    ends = table.state.copy()
    ends[:, 2], ends[:, 0] = 4 + 2 * side, 100.0
    fields = {**vars(table), "next_state": ends}
    return LatentTable(**fields)


@pytest.mark.parametrize("implementation", ["diffusion", "gaussian"])
def test_it_learns_which_mode_leads_to_the_goal(implementation: str) -> None:
    settings: dict[str, Any] = {
        "epochs": 16,
        "schedule": "one_cycle",
        "batch_size": 512,
        "learning_rate": 6e-3,
        "ema_decay": 0.98,
        "goal_drop_probability": 0.2,
    }
    config = goal_config(implementation=implementation, indices=[2], **settings)
    learner = PriorLearner(config, _sides(4000), torch.device("cpu"))
    assert learner.published.dimensions.goal == 1
    for step in range(learner.total):
        learner.update(step)
    state, goal = torch.tensor([[4.0, 4, 4], [4.0, 4, 4]]), torch.tensor([[6.0], [2.0]])
    drawn = latents(learner.published.sampler(), state, 300, SamplingConfig(steps=None), 0, goal)
    offset = drawn[..., 0] - 8
    torch.testing.assert_close(offset.mean(1), torch.tensor([3.0, -3.0]), atol=0.6, rtol=0)
    if implementation == "diffusion":
        metrics = learner.validate()
        assert float(metrics["error"]) < 0.9 * float(metrics["error_without_goal"])
        blind = SamplingConfig(guidance=0.0)
        without = latents(learner.published.sampler(), state, 300, blind, 0, goal)[..., 0] - 8
        assert 0.3 < float((without > 0).float().mean()) < 0.7


def test_goals_that_are_no_entries_of_a_state_are_refused() -> None:
    config: Config = goal_config(indices=[STATE])
    with pytest.raises(ConfigError, match=r"goal_indices is \[3\], expected .* 0 to 2"):
        PriorLearner(config, two_modes(100), torch.device("cpu"))
