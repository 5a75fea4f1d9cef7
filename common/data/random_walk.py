"""Generated data: the random walk of supplement D.

Actions are drawn from [-1, -0.8] and [0.8, 1], and none from between: two modes that a Gaussian
cannot have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from common.data.minari_writing import EpisodeArrays, Recording
from ldcq.config import RandomWalkConfig

LEAST_ACTION = 0.8
"""The shortest step in the data."""
GAP = 0.78
"""Steps shorter than this count as off the data's support; the modes are 0.2 wide."""


def draw_actions(random: np.random.Generator, count: int) -> npt.NDArray[np.float32]:
    """Actions of the behaviour policy, uniform on both modes, shape (count, 1)."""
    length = random.uniform(LEAST_ACTION, 1.0, (count, 1))
    side = random.choice(np.array([-1.0, 1.0]), (count, 1))
    return np.asarray(length * side, np.float32)


def generate(
    config: RandomWalkConfig, on_progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Iterator[EpisodeArrays]:
    """Episodes of the behaviour policy, the last one cut off where the steps end; a function of
    `config` alone. `on_progress` is told the steps made and the steps wanted after every episode.
    """
    from common.data.random_walk_env import MAX_EPISODE_STEPS, RandomWalk

    environment, random, done = RandomWalk(), np.random.default_rng(config.seed), 0
    while done < config.steps:
        actions = draw_actions(random, min(MAX_EPISODE_STEPS, config.steps - done))
        state, _ = environment.reset()
        states, rewards, reached = [state], [], False
        for action in actions:
            state, reward, reached, *_ = environment.step(action)
            states.append(state)
            rewards.append(reward)
            if reached:
                break
        ends = np.arange(len(rewards)) == len(rewards) - 1
        yield EpisodeArrays(
            np.asarray(states),
            actions[: len(rewards)],
            np.asarray(rewards),
            ends & reached,
            ends & (not reached),
        )
        done += len(rewards)
        on_progress(done, config.steps)


def record(config: RandomWalkConfig, on_progress: Callable[[int, int], None]) -> Recording:
    """The dataset of such episodes, which are generated while they are written."""
    from common.data.environments import RANDOM_WALK, recorded_spec
    from common.data.random_walk_env import RandomWalk

    metadata = {
        "algorithm_name": "random walk",
        "description": "Steps of 0.8 to 1 to either side (supplement D of the LDCQ paper).",
    }
    return Recording(
        generate(config, on_progress), RandomWalk(), recorded_spec(RANDOM_WALK), metadata
    )
