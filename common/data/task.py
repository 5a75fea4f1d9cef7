"""What a dataset is evaluated on: environment, scores, time limit, map. Nothing goes by name."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.data.flattening import Encode, Flattening, flattening
from common.data.loading import open_dataset
from common.data.minari import MinariDataset, NoEnvironmentError
from common.data.refusals import OtherGoalsError, check_environment
from ldcq.config import Config, ConfigError, EnvironmentConfig, FramesConfig
from ldcq.data.episodes import DataError, Episodes, Float, Spaces

if TYPE_CHECKING:
    import gymnasium

    from common.data.flat_environment import FlatEnvironment


@dataclass(frozen=True)
class Layout:
    """A map on which trajectories can be drawn.

    Attributes:
        walls: Where cells are walls, shape (rows, columns).
        cell_size: Side of a cell, in metres.
        origin: Position (x, y) of the outer corner of cell (0, 0); x grows with the column, y falls
            with the row.
        goal: Position of the fixed goal, shape (2,); None where the goal differs between episodes.
        position_indices: Where x and y are in the flat state.
    """

    walls: npt.NDArray[np.bool_]
    cell_size: float
    origin: tuple[float, float]
    goal: npt.NDArray[np.float64] | None
    position_indices: tuple[int, int]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top, as matplotlib's `imshow(walls, extent=...)` takes them."""
        rows, columns = self.walls.shape
        left, top = self.origin
        return left, left + columns * self.cell_size, top - rows * self.cell_size, top


@dataclass(frozen=True)
class EnvironmentFactory:
    """Makes the evaluation environment with flat observations; can be sent to another process.

    Attributes:
        dataset: Folder of the Minari dataset that records it; None where `environment` has an id.
        environment: Its id, settings, wrappers and time limit.
        observation_keys: Keys of dictionary observations to concatenate; None: all, sorted.
        frames: How images are compressed; None: there may be none.
    """

    dataset: Path | None
    environment: EnvironmentConfig
    observation_keys: tuple[str, ...] | None
    frames: FramesConfig | None = None

    def __call__(self, render_mode: str | None = None) -> FlatEnvironment:
        """A new environment. Raises DataError or ConfigError if it cannot be made."""
        from common.data.flat_environment import FlatEnvironment, make_registered, wrapped

        wanted = self.environment
        settings: dict[str, Any] = deepcopy(wanted.kwargs)
        if wanted.max_episode_steps is not None:
            settings["max_episode_steps"] = wanted.max_episode_steps
        if wanted.id is not None:
            raw = make_registered(wanted.id, render_mode, **settings)
        else:
            assert self.dataset is not None, "neither a dataset nor an environment"
            raw = MinariDataset(self.dataset).make_environment(render_mode, **settings)
        raw = wrapped(raw, wanted.wrappers)
        name = wanted.id or str(self.dataset)
        space, keys = raw.observation_space, self.observation_keys
        return FlatEnvironment(raw, flattening(space, keys, name, self.frames))


@dataclass(frozen=True)
class Task:
    """What a policy is evaluated on.

    Attributes:
        make_env: Picklable; makes an environment with flat float32 observations; where they have
            images, with observations as they are, which `flattening` makes states.
        spaces: Of its states and actions; those of the dataset.
        reference_scores: Returns that score 0 and 100, None if unknown.
        max_episode_steps: Its time limit.
        first_hit: Whether it is a continuing sparse task, where the step of the first reward has a
            score of its own.
        layout: A map to draw trajectories on, if it has one.
        flattening: How observations become states; None: they are states.
    """

    make_env: Callable[[], gymnasium.Env[Any, Any]]
    spaces: Spaces
    reference_scores: tuple[float, float] | None
    max_episode_steps: int
    first_hit: bool
    layout: Layout | None
    flattening: Flattening | None = None

    def observer(self, encode: Encode | None) -> Callable[[Any], Float] | None:
        """What makes states (E, S) of the observations of E environments, with `encode` for their
        images; None where `make_env` gives states.

        Raises:
            DataError: There are images and `encode` is None.
        """
        if self.flattening is None or not self.flattening.frame_shape:
            return None
        if encode is None:
            raise DataError(
                "frames: the environment shows images, but the models were trained without; "
                "expected ones of this configuration"
            )
        return partial(self.flattening, encode=encode)


def load_task(config: Config, store_root: Path) -> Task:
    """What the configuration's dataset is evaluated on.

    `evaluation.environment` and `evaluation.reference_scores` override what the dataset records.

    Raises:
        NoEnvironmentError: None is recorded or given.
        OtherGoalsError: The rewards of the dataset belong to other goals.
        DataError: The dataset is not on this machine, or the environment cannot be made, has no
            time limit, other spaces than the dataset, goals that differ where a method needs one
            goal, or no `success` where that is the score.
        ConfigError: A wrapper cannot be imported.
    """
    dataset = open_dataset(config.data, store_root, config.frames)
    folder = dataset.folder if isinstance(dataset, MinariDataset) else None
    wanted = config.evaluation.environment
    if folder is None and wanted.id is None:
        raise NoEnvironmentError(dataset.name)
    factory = EnvironmentFactory(
        folder if wanted.id is None else None,
        wanted,
        config.data.observation_keys,
        config.frames,
    )
    environment = factory()
    try:
        name = environment.spec.id if environment.spec else str(environment.unwrapped)
        layout = _layout(environment)
        check_environment(config, dataset, environment, name, layout)
        return Task(
            make_env=factory,
            flattening=environment.flattening,
            spaces=dataset.spaces,
            reference_scores=config.evaluation.reference_scores or dataset.reference_scores,
            max_episode_steps=_time_limit(environment, name),
            first_hit=_first_hit(environment.unwrapped),
            layout=layout,
        )
    finally:
        environment.close()


def check_rewards(config: Config, store_root: Path) -> None:
    """Raises OtherGoalsError where it can be seen that the dataset's rewards belong to other goals;
    whatever else is wrong with the task is no matter of those that only train.
    """
    try:
        load_task(config, store_root)
    except OtherGoalsError:
        raise
    except (DataError, ConfigError):
        return


def behaviour_episodes(episodes: Episodes, max_episode_steps: int) -> list[Float]:
    """The rewards of the dataset itself, in stretches of at most `max_episode_steps`.

    Episodes that continue one another (truncated, and the next begins where it ended) are joined,
    then cut. A shorter rest of such a run is dropped, unless it is all there is or it ended
    in a terminal state.
    """
    stretches: list[Float] = []
    for first, last in _continued(episodes):
        start = int(episodes.offsets[first])
        end = int(episodes.offsets[last] + episodes.lengths[last])
        rewards = episodes.rewards[start:end]
        cuts = np.split(rewards, range(max_episode_steps, len(rewards), max_episode_steps))
        terminated = bool(episodes.terminations[end - 1])
        if len(cuts) > 1 and len(cuts[-1]) < max_episode_steps and not terminated:
            cuts.pop()
        stretches += cuts
    return stretches


def _continued(episodes: Episodes) -> list[tuple[int, int]]:
    """First and last episode of every run of episodes that continue one another."""
    seen, frames = episodes.observations_of, episodes.frames
    last_rows = np.asarray(episodes.offsets) + episodes.lengths - 1
    rows = last_rows + np.arange(1, episodes.count + 1)  # of the observations after them
    cut = episodes.truncations[last_rows] & ~episodes.terminations[last_rows]
    ends = [
        episode
        for episode in range(episodes.count)
        if episode + 1 == episodes.count
        or not cut[episode]
        or not np.array_equal(seen(episode)[-1], seen(episode + 1)[0])
        or (frames is not None and not np.array_equal(*frames[rows[episode] + [0, 1]]))
    ]
    return list(zip([0, *(end + 1 for end in ends)], ends, strict=False))


def _time_limit(environment: gymnasium.Env[Any, Any], name: str) -> int:
    limit = environment.spec.max_episode_steps if environment.spec else None
    if limit is None:
        raise DataError(
            f"evaluation.environment: {name} has no time limit; expected max_episode_steps in its "
            "spec"
        )
    return int(limit)


def _first_hit(environment: Any) -> bool:
    """Said by the environment, or read off the settings of gymnasium-robotics' mazes."""
    said = environment.metadata.get("first_hit")
    if said is not None:
        return bool(said)
    continuing = getattr(environment, "continuing_task", False)
    sparse = getattr(environment, "reward_type", None) == "sparse"
    return bool(continuing and sparse and not getattr(environment, "reset_target", True))


def _layout(environment: FlatEnvironment) -> Layout | None:
    """The map of gymnasium-robotics' mazes (PointMaze, AntMaze) and of what is built on them."""
    task: Any = environment.unwrapped
    maze = getattr(task, "maze", None)
    position = None if environment.flattening.frame_shape else _position_indices(environment)
    if position is None or maze is None or not hasattr(maze, "maze_map"):
        return None
    goals = {tuple(map(float, goal)) for goal in maze.unique_goal_locations}
    return Layout(
        walls=np.array([[cell == 1 for cell in row] for row in maze.maze_map]),
        cell_size=float(maze.maze_size_scaling),
        origin=(-float(maze.x_map_center), float(maze.y_map_center)),
        goal=np.array(goals.pop()) if len(goals) == 1 else None,
        position_indices=position,
    )


def _position_indices(environment: FlatEnvironment) -> tuple[int, int] | None:
    """Where x and y of `achieved_goal` stand in the flat state: in itself, or in a copy of it."""
    found: set[int] | None = None
    for seed in range(3):  # one start could agree by chance
        observation, _ = environment.env.reset(seed=seed)
        if not isinstance(observation, dict) or np.size(observation.get("achieved_goal", ())) < 2:
            return None
        state = environment.flattening.single(observation)
        wanted = np.asarray(observation["achieved_goal"], np.float32).reshape(-1)[:2]
        here = {i for i in range(len(state) - 1) if np.array_equal(state[i : i + 2], wanted)}
        found = here if found is None else found & here
    return (min(found), min(found) + 1) if found else None
