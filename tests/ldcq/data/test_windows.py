"""Windows against a plain loop over the episodes they came from."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ldcq.data.episodes import DataError, Episode, Episodes, Spaces, join_episodes
from ldcq.data.statistics import action_range, state_statistics
from ldcq.data.windows import make_windows
from tests.common.data.samples import numbered_episodes

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


@given(lengths=LENGTHS, horizon=st.integers(1, 6), data=st.data())
@settings(max_examples=60, deadline=None)
def test_windows_equal_a_plain_loop(lengths: list[int], horizon: int, data: st.DataObject) -> None:
    terminal = data.draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    episodes = numbered_episodes(lengths, terminal)
    wanted = [
        (episode, step)
        for episode, length in enumerate(lengths)
        for step in range(length - horizon + 1)
    ]
    if not wanted:
        with pytest.raises(DataError, match="shorter than the horizon"):
            make_windows(episodes, horizon, 0.2, 0)
        return
    windows = make_windows(episodes, horizon, 0.2, 0)
    assert list(zip(windows.episode.tolist(), windows.step.tolist(), strict=True)) == wanted
    every = np.arange(len(windows))
    for index, (episode, step) in enumerate(wanted):
        observations = episodes.observations_of(episode)
        np.testing.assert_array_equal(
            windows.states(every)[index], observations[step : step + horizon]
        )
        np.testing.assert_array_equal(
            windows.next_states(every)[index], observations[step + horizon]
        )
        np.testing.assert_array_equal(windows.first_states(every)[index], observations[step])
        np.testing.assert_array_equal(
            windows.actions(every)[index],
            [[episode, step + offset] for offset in range(horizon)],
        )
        np.testing.assert_array_equal(
            windows.rewards(every)[index], episodes.rewards_of(episode)[step : step + horizon]
        )
        ends = step + horizon == lengths[episode]
        assert windows.terminated(every)[index] == (terminal[episode] and ends)


@given(lengths=LENGTHS, horizon=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_no_window_crosses_a_boundary(lengths: list[int], horizon: int) -> None:
    lengths = [*lengths, horizon]
    windows = make_windows(numbered_episodes(lengths), horizon, 0.0, 0)
    states = windows.states(slice(None))
    assert (states[:, :, 0] == states[:, :1, 0]).all()
    np.testing.assert_array_equal(np.diff(states[:, :, 1], axis=1), 1)
    np.testing.assert_array_equal(
        windows.next_states(slice(None))[:, :2], states[:, -1, :2] + [0, 1]
    )


def test_a_terminal_state_inside_an_episode_ends_its_windows() -> None:
    episodes = numbered_episodes([6])
    part = Episode(
        episodes.observations,
        episodes.actions,
        episodes.rewards,
        np.array([False, False, True, False, False, False]),
        episodes.truncations,
    )
    joined = join_episodes([part], episodes.spaces, "terminal inside")
    windows = make_windows(joined, 2, 0.0, 0)
    assert windows.step.tolist() == [0, 1, 3, 4]
    assert windows.terminated(np.arange(4)).tolist() == [False, True, False, False]


def test_split_is_by_episode_seeded_and_never_empties_training() -> None:
    episodes = numbered_episodes([10] * 40)
    windows = make_windows(episodes, 4, 0.25, 7)
    held_out = np.unique(windows.episode[windows.validation])
    assert len(held_out) == 10
    assert not set(held_out) & set(windows.episode[~windows.validation])
    same = make_windows(episodes, 4, 0.25, 7)
    other = make_windows(episodes, 4, 0.25, 8)
    np.testing.assert_array_equal(windows.validation, same.validation)
    assert (windows.validation != other.validation).any()
    assert len(make_windows(episodes, 4, 0.0, 7).held_out) == 0
    single = make_windows(numbered_episodes([10]), 4, 0.9, 0)
    assert len(single.training) == len(single)
    pair = make_windows(numbered_episodes([10, 10]), 4, 0.01, 0)
    assert len(np.unique(pair.episode[pair.validation])) == 1


def test_too_short_episodes_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "ldcq.data.windows"):
        windows = make_windows(numbered_episodes([3, 9, 2]), 5, 0.0, 0)
    assert "2 of 3 episodes dropped" in caplog.text
    assert set(windows.episode) == {1}
    with pytest.raises(DataError, match=r"all 2 episodes .* horizon of 5 .* longest has 3"):
        make_windows(numbered_episodes([3, 2]), 5, 0.0, 0)


def test_statistics_are_those_of_the_training_episodes() -> None:
    episodes = numbered_episodes([8, 5, 9, 7, 6])
    windows = make_windows(episodes, 4, 0.4, 1)
    trained = np.unique(windows.episode[windows.training])
    assert len(trained) == 3
    states = np.concatenate([episodes.observations_of(index) for index in trained])
    statistics = state_statistics(windows)
    np.testing.assert_allclose(statistics.state_mean, states.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(statistics.state_std[:2], states.std(axis=0)[:2], rtol=1e-6)
    assert statistics.state_std[2] == 1.0  # the constant dimension


def test_discrete_actions_stay_whole_numbers() -> None:
    from ldcq.data.episodes import Spaces

    part = Episode(
        np.zeros((5, 2)), np.array([[0], [2], [1], [2]]), np.zeros(4), np.zeros(4), np.zeros(4)
    )
    episodes = join_episodes([part], Spaces.discrete(2, 3), "discrete")
    actions = make_windows(episodes, 2, 0.0, 0).actions(slice(None))
    assert actions.dtype == np.int64
    assert actions[:, :, 0].tolist() == [[0, 2], [2, 1], [1, 2]]


@pytest.mark.parametrize("most", [(1, 100), (2, 6)])
def test_more_episodes_or_steps_than_were_announced_are_refused(most: tuple[int, int]) -> None:
    one = numbered_episodes([4])
    part = Episode(one.observations, one.actions, one.rewards, one.terminations, one.truncations)
    joined = join_episodes(iter([part]), one.spaces, "one", most=most)
    assert joined.fingerprint == one.fingerprint
    with pytest.raises(DataError, match=rf"two: expected {most[0]} episodes .* {most[1]} steps"):
        join_episodes(iter([part, part]), one.spaces, "two", most=most)


def test_fingerprint_follows_the_content() -> None:
    def fingerprint(episodes: Episodes) -> str:
        return episodes.fingerprint

    assert fingerprint(numbered_episodes([3, 4])) == fingerprint(numbered_episodes([3, 4]))
    assert fingerprint(numbered_episodes([3, 4])) != fingerprint(numbered_episodes([4, 3]))
    terminated = numbered_episodes([3, 4], [True, False])
    assert fingerprint(numbered_episodes([3, 4])) != fingerprint(terminated)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ([-np.inf, -np.inf], [np.inf, np.inf], ([-3, 0], [5, 0.5])),  # no bounds
        ([-1, -1000], [1, 1000], ([-1, 0], [1, 0.5])),  # narrower, and far wider, than the data
    ],
)
def test_the_range_of_actions_is_the_datas_inside_the_spaces(
    low: list[float], high: list[float], expected: tuple[list[float], list[float]]
) -> None:
    actions = np.array([[0, 0], [-3, 0.5], [5, 0.25]], np.float32)
    flags = np.zeros(3, np.bool_)
    part = Episode(np.zeros((4, 1), np.float32), actions, np.zeros(3), flags, flags)
    episodes = join_episodes([part], Spaces.box(1, low, high), "here")
    found = action_range(episodes)
    np.testing.assert_array_equal(found, np.array(expected, np.float32))
