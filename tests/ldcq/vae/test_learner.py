"""Training: what it reaches, that it repeats, and that it resumes bit for bit."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.rpc.stage import Progress
from common.training import Checkpoints, DivergedError, configure_torch, train
from ldcq.config import Config, override
from ldcq.data.windows import Windows, make_windows
from ldcq.learning.batches import generator
from ldcq.vae.learner import VaeLearner
from ldcq.vae.losses import decoded_steps
from tests.ldcq.vae.synthetic import HORIZON, make_episodes


def make_learner(config: Config, windows: Windows) -> VaeLearner:
    return VaeLearner(config, windows, configure_torch(config))


def weights(learner: VaeLearner) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.vae.state_dict().items()}


def differences(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize("encoder", ["gru", "mlp"])
def test_one_update_moves_every_network(config: Config, windows: Windows, encoder: str) -> None:
    learner = make_learner(override(config, {"vae.encoder": encoder}), windows)
    before = weights(learner)
    metrics = learner.update(0)
    unmoved = set(before) - set(differences(before, weights(learner)))
    assert unmoved == {name for name, _ in learner.vae.named_buffers()}
    assert {"loss", "log_likelihood", "kl", "learning_rate"} == set(metrics)


def test_the_decoded_steps_are_the_windows_own(config: Config, windows: Windows) -> None:
    """The likelihood of step t must be that of s_t and a_t, not of another step's."""
    learner = make_learner(config, windows)
    rows = windows.training[:9]

    def evidence(count: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            random = generator(0, "x")
            found = learner.evidence(learner._inputs(rows, random, count))
        return found.log_likelihood, found.kl

    everything, kl = evidence(None)
    some, same_kl = evidence(3)
    random = generator(0, "x")
    torch.randn(9, config.vae.latent_dim, generator=random)
    steps = decoded_steps(9, HORIZON, 3, random)
    assert steps is not None
    torch.testing.assert_close(some, everything.gather(1, steps))
    assert torch.equal(kl, same_kl)


def test_ten_updates_equal_five_saved_loaded_and_five_more_bit_for_bit(
    tmp_path: Path, config: Config, windows: Windows
) -> None:
    whole = make_learner(config, windows)
    rates = [whole.update(step)["learning_rate"] for step in range(10)]

    first = make_learner(config, windows)
    for step in range(5):
        first.update(step)
    Checkpoints(tmp_path, "vae", {}, keep=1).save(5, first.state_dict())
    second = make_learner(override(config, {"seed": config.seed}), windows)
    second.update(0)  # whatever state it was in is replaced
    loaded = Checkpoints(tmp_path, "vae", {}, keep=1).latest()
    assert loaded is not None
    second.load_state_dict(loaded[1])
    resumed = [second.update(step)["learning_rate"] for step in range(5, 10)]

    assert resumed == rates[5:]
    assert len(set(rates)) == 10
    assert differences(weights(whole), weights(second)) == []


def test_the_same_seed_repeats_and_another_does_not(config: Config, windows: Windows) -> None:
    def trained(seed: int) -> dict[str, torch.Tensor]:
        learner = make_learner(override(config, {"seed": seed}), windows)
        for step in range(3):
            learner.update(step)
        return weights(learner)

    assert differences(trained(0), trained(0)) == []
    assert "decoder.elements.0.trunk.0.weight" in differences(
        trained(0), trained(1)
    ) or "decoder.logits.0.weight" in (differences(trained(0), trained(1)))


def test_validation_repeats_and_uses_held_out_windows_only(
    config: Config, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = make_learner(config, windows)
    used: list[np.ndarray] = []
    original = learner._inputs

    def spy(rows: Any, *rest: Any) -> Any:
        used.append(rows)
        return original(rows, *rest)

    monkeypatch.setattr(learner, "_inputs", spy)
    first, second = learner.validate(), learner.validate()
    assert {k: float(v) for k, v in first.items()} == {k: float(v) for k, v in second.items()}
    assert windows.validation[used[0]].all()
    learner.update(0)
    assert not windows.validation[used[-1]].any()


def test_without_held_out_windows_there_is_no_validation(config: Config) -> None:
    learner = make_learner(config, make_windows(make_episodes(), HORIZON, 0.0, 0))
    assert learner.validate() == {}


def test_the_reconstruction_improves_and_latents_tell_behaviours_apart(config: Config) -> None:
    windows = make_windows(make_episodes(count=24), HORIZON, 0.2, 0)
    learner = make_learner(override(config, {"vae.epochs": 30}), windows)
    rows = windows.held_out

    @torch.no_grad()
    def error() -> float:
        states = torch.from_numpy(windows.states(rows))
        actions = torch.from_numpy(windows.actions(rows))
        latents = learner.vae.encode(states, actions).mean
        standardised = learner.vae.state_normaliser(states)
        decoded = learner.vae.decoder.act(
            standardised.flatten(0, 1), latents.repeat_interleave(HORIZON, 0), None
        )
        return float((decoded - actions.flatten(0, 1)).square().mean())

    before, validation = error(), float(learner.validate()["loss"])
    for step in range(learner.total):
        learner.update(step)
    assert error() < before / 4
    assert float(learner.validate()["loss"]) < validation - 0.5

    with torch.no_grad():
        latents = learner.vae.encode(
            torch.from_numpy(windows.states(rows)), torch.from_numpy(windows.actions(rows))
        ).mean
    turns = torch.from_numpy(windows.episode[rows] % 2)
    # One nearest-neighbour look: the closest other window should mostly turn the same way.
    distances = torch.cdist(latents, latents).fill_diagonal_(torch.inf)
    nearest = distances.argmin(dim=1)
    other_episode = torch.from_numpy(windows.episode[rows] != windows.episode[rows][nearest])
    assert other_episode.any()
    assert (turns[nearest] == turns).float().mean() > 0.9


def test_discrete_actions_are_reconstructed(config: Config) -> None:
    windows = make_windows(make_episodes(discrete=True, count=24), HORIZON, 0.2, 0)
    learner = make_learner(override(config, {"vae.epochs": 30}), windows)
    before = float(learner.validate()["log_likelihood"])
    for step in range(learner.total):
        learner.update(step)
    after = float(learner.validate()["log_likelihood"])
    assert before < -0.9  # about log(1/3): it knew nothing
    assert after > -0.45


def test_a_loss_that_is_not_finite_ends_training_with_advice(
    tmp_path: Path, config: Config, windows: Windows
) -> None:
    config = override(config, {"vae.learning_rate": 1e30, "training.log_every": 1})
    with pytest.raises(DivergedError, match=r"loss is .* lower vae\.learning_rate"):
        train(
            make_learner(config, windows),
            stage="vae",
            total=20,
            checkpoints=Checkpoints(tmp_path, "vae", {}, keep=1),
            progress=Progress("vae"),
            config=config.training,
            logs=tmp_path / "logs",
            stop=threading.Event(),
        )
