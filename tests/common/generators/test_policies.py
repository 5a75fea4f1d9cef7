"""Policies from files: their layers, their noise, and datasets of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.data import ensure_dataset, load_episodes
from common.generators.policies import Network, PolicyPlayer
from ldcq.config import DataConfig, PolicyConfig
from ldcq.config.generate import PlayingPolicy
from ldcq.data.episodes import DataError

STATES, ACTIONS = 11, 3  # of Hopper


def write(path: Path, inputs: int = STATES, **more: Any) -> str:
    random = np.random.default_rng(0)
    sizes = [inputs, 8, ACTIONS]
    layers: dict[str, Any] = {
        f"{name}{index}": 0.3 * random.standard_normal(shape)
        for index in range(2)
        for name, shape in (("W", (sizes[index + 1], sizes[index])), ("b", (sizes[index + 1],)))
    }
    np.savez(path, **{**layers, **more})
    return str(path)


def hopper(*policies: PlayingPolicy, steps: int = 60) -> PolicyConfig:
    return PolicyConfig(environment="Hopper-v5", policies=policies, steps=steps)


def test_layers_are_those_of_the_file(tmp_path: Path) -> None:
    state = np.linspace(-1, 1, STATES)
    file = write(tmp_path / "a.npz")
    with np.load(file) as arrays:
        hidden = np.tanh(arrays["W0"] @ state + arrays["b0"])
        expected = np.clip(arrays["W1"] @ hidden + arrays["b1"], -1, 1)
        relu = np.tanh(
            arrays["W1"] @ np.maximum(arrays["W0"] @ state + arrays["b0"], 0) + arrays["b1"]
        )
    np.testing.assert_allclose(Network(file)(state, 0), expected)
    other = write(tmp_path / "b.npz", hidden="relu", squash="tanh")
    np.testing.assert_allclose(Network(other)(state, 0), relu)
    moved = write(tmp_path / "c.npz", in_shift=state, in_scale=np.ones(STATES))
    np.testing.assert_allclose(Network(moved)(2 * state, 0), expected, atol=1e-6)
    scaled: dict[str, Any] = {"obs_mean": state, "obs_var": np.ones(STATES), "obs_clip": 10.0}
    normal = write(tmp_path / "d.npz", **scaled)
    np.testing.assert_allclose(Network(normal)(2 * state, 0), expected, atol=1e-6)
    timed = write(tmp_path / "e.npz", inputs=STATES + 1)
    assert not np.allclose(Network(timed)(state, 0), Network(timed)(state, 500))


def test_a_dataset_is_a_function_of_its_settings(tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz")
    policies = PlayingPolicy(file=file, noise=(0.1, 0.5)), PlayingPolicy(file=file, share=3.0)
    config = DataConfig(dataset="ldcq/hops-v0", generate=hopper(*policies))
    digests = set()
    for store in ("one", "two"):
        assert ensure_dataset(config, tmp_path / store)
        assert not ensure_dataset(config, tmp_path / store)
        episodes = load_episodes(config, tmp_path / store)
        digests.add(episodes.fingerprint)
        assert not list((tmp_path / store / "datasets").glob(".*"))
    assert len(digests) == 1
    assert len(episodes.rewards) == 60
    assert episodes.terminations[:-1].any(), "a hopper falls"
    assert (episodes.spaces.state_dim, episodes.spaces.action_dim) == (STATES, ACTIONS)


def _first_actions(policy: PlayingPolicy, *seeds: int) -> list[np.ndarray[Any, Any]]:
    player = PolicyPlayer(hopper(policy))
    return [player.episode(np.random.SeedSequence(seed)).actions[0] for seed in seeds]


def test_a_weaker_policy_is_of_weights_changed_in_their_layer_s_measure(tmp_path: Path) -> None:
    network = Network(write(tmp_path / "a.npz"))
    weaker = network.weaker(0.05, np.random.default_rng(0))
    for index in range(2):
        layer, changed = network._layer(index), weaker._layer(index)
        ratio = np.sqrt(np.square(changed - layer).mean() / np.square(layer).mean())
        assert ratio == pytest.approx(0.05, rel=0.3)
    state = np.linspace(-1, 1, STATES)
    np.testing.assert_array_equal(
        network.weaker(0.0, np.random.default_rng(0))(state, 0), network(state, 0)
    )


def test_one_weaker_policy_plays_all_episodes_or_another_each(tmp_path: Path) -> None:
    file, weakness = write(tmp_path / "a.npz"), (0.2, 0.2)
    plain, one, two, same = (
        _first_actions(policy, 7)[0]
        for policy in (
            PlayingPolicy(file=file),
            PlayingPolicy(file=file, weakness=weakness, weaker=1),
            PlayingPolicy(file=file, weakness=weakness, weaker=2),
            PlayingPolicy(file=file, weakness=weakness, weaker=1),
        )
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, two)
    assert not np.allclose(one, plain)
    drawn = _first_actions(PlayingPolicy(file=file, weakness=weakness), 7, 7, 8)
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], one)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (None, "0 files given, expected 1, the layers of policies for Hopper-v5"),
        ("nothing.npz", "not a NumPy archive"),
        ("short.npz", "maps 5 numbers to 3, expected 11 to 3 as in Hopper-v5"),
        ("empty.npz", "has x, expected the layers W0, b0, W1"),
    ],
)
def test_files_that_cannot_play_are_refused(tmp_path: Path, file: str | None, said: str) -> None:
    write(tmp_path / "short.npz", inputs=5)
    np.savez(tmp_path / "empty.npz", x=np.zeros(1))
    policy = PlayingPolicy(file=None if file is None else str(tmp_path / file))
    with pytest.raises(DataError, match=said):
        PolicyPlayer(hopper(policy))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"W0": np.full((3, 11), np.nan)}, "W0 are not finite numbers"),
        ({"W0": np.zeros(3)}, r"W0 has shape \(3,\), expected outputs and inputs"),
        ({"b0": None}, "its arrays do not fit each other .*b0"),
        ({"b0": np.zeros(5)}, "its arrays do not fit each other"),
        ({"hidden": np.array("elu")}, "hidden is 'elu', expected one of tanh, relu"),
        ({"squash": np.array("none")}, "squash is 'none', expected one of clip, tanh"),
        ({"obs_mean": np.zeros(11)}, "its arrays do not fit each other .*obs_var"),
        (
            {"obs_mean": np.zeros(11), "obs_var": np.full(11, -1.0)},
            "obs_var has negative numbers, expected variances",
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_before_anything_is_played(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    layers = {"W0": np.ones((4, 11)), "b0": np.ones(4), "W1": np.ones((3, 4)), "b1": np.ones(3)}
    given = {key: value for key, value in {**layers, **changes}.items() if value is not None}
    np.savez(tmp_path / "policy.npz", **given)
    with pytest.raises(DataError, match=said):
        Network(str(tmp_path / "policy.npz"))


def test_a_policy_whose_file_changed_meanwhile_plays_anew(tmp_path: Path) -> None:
    """What another one played is no part of its dataset."""
    file = tmp_path / "policy.npz"
    write(file)
    config = DataConfig(dataset="mine/hopper-v0", generate=hopper(PlayingPolicy(file=str(file))))

    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ensure_dataset(config, tmp_path, interrupt)
    write(file, b1=np.full(ACTIONS, 0.5))
    ensure_dataset(config, tmp_path, lambda *_: None)
    resumed = load_episodes(config, tmp_path)
    ensure_dataset(config, tmp_path / "other", lambda *_: None)
    assert resumed.fingerprint == load_episodes(config, tmp_path / "other").fingerprint


def test_a_policy_may_move_and_no_other_takes_its_place(tmp_path: Path) -> None:
    """A dataset stays what it is wherever its policy lies now, and where it is no more."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    file = write(first / "a.npz")

    def ensure(played: Path) -> bool:
        generate = hopper(PlayingPolicy(file=str(played)))
        config = DataConfig(dataset="ldcq/hops-v0", generate=generate)
        return ensure_dataset(config, tmp_path)

    assert ensure(Path(file))
    moved = Path(file).rename(second / "a.npz")
    assert not ensure(moved)
    assert not ensure(first / "a.npz"), "it is nowhere: its name has to do"
    with pytest.raises(DataError, match=r"data\.generate: ldcq/hops-v0"):
        ensure(second / "b.npz")
    write(first / "a.npz", hidden="relu")
    with pytest.raises(DataError, match="was generated with"):
        ensure(first / "a.npz")
