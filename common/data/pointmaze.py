"""Generated data: D4RL's waypoint controller in PointMaze."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from common.data.maze import POSITION_NOISE, START_SPEED, Maze, Point, find_maze, goal_reward
from common.data.minari_writing import EpisodeArrays, Recording
from common.data.pointmaze_pixels import MazePainter, PointMazePixels
from ldcq.config import PointMazeConfig
from ldcq.data.episodes import DataError

if TYPE_CHECKING:
    import gymnasium

    from common.data.pointmaze_env import FixedGoalPointMaze

GAIN, DAMPING = 10.0, 1.0
"""Of the controller, D4RL's: a = clip(10 (waypoint - position) - velocity + noise, -1, 1)."""
WAYPOINT_RADIUS = 0.1
"""Distance in metres at which the next waypoint is taken, D4RL's."""
MAX_SPEED = 5.0
"""PointMaze limits the velocity to this before every step, in metres per second."""
REPORT_EVERY = 2000


@dataclass(frozen=True)
class Trajectory:
    """One continuous trajectory of M steps.

    Attributes:
        states: Position and velocity, shape (M + 1, 4).
        actions: Clipped, shape (M, 2).
        goals: The navigation goal that was steered to, shape (M, 2).
        cuts: Whether the navigation goal was reached or given up after the step, shape (M,).
    """

    states: npt.NDArray[np.float64]
    actions: npt.NDArray[np.float32]
    goals: npt.NDArray[np.float64]
    cuts: npt.NDArray[np.bool_]


class WaypointController:
    """D4RL's: steers from cell to cell along a shortest path to a navigation goal."""

    def __init__(self, maze: Maze, noise: float, random: np.random.Generator) -> None:
        """`noise` is the standard deviation on actions; `random` draws it, goals and jitter."""
        self._maze, self._noise, self._random = maze, noise, random
        self._waypoints: list[Point] = []
        self.goal: Point = np.zeros(2)

    def choose_goal(self, position: Point) -> None:
        """Draws a goal uniformly over the free cells, with a jittered waypoint per cell."""
        cells = self._maze.free_cells
        target = cells[int(self._random.integers(len(cells)))]
        self.set_goal(position, self._maze.centre(target) + self._jitter())

    def set_goal(self, position: Point, goal: Point, jitter: bool = True) -> None:
        """Plans the waypoints from a position to a goal, in metres, shape (2,) each: the goal is
        the last, and those between are moved at random where `jitter` says so.
        """
        path = self._maze.path(self._maze.cell(position), self._maze.cell(goal))
        between = [self._maze.centre(cell) for cell in path[:-1]]
        moved = [waypoint + self._jitter() if jitter else waypoint for waypoint in between]
        self._waypoints, self.goal = [*moved, goal], goal

    def reached(self, position: Point) -> bool:
        """Takes the next waypoint when this one is near; whether the last, the goal, is near."""
        near = bool(np.hypot(*(self._waypoints[0] - position)) < WAYPOINT_RADIUS)
        if near and len(self._waypoints) > 1:
            del self._waypoints[0]
            return False
        return near

    def act(self, position: Point, velocity: Point) -> npt.NDArray[np.float32]:
        """The action towards the current waypoint, in [-1, 1], from a position in metres and a
        velocity in metres per second; shape (2,) each.
        """
        action = GAIN * (self._waypoints[0] - position) - DAMPING * velocity
        if self._noise:
            action = action + self._noise * self._random.standard_normal(2)
        return np.clip(action, -1.0, 1.0).astype(np.float32)

    def _jitter(self) -> Point:
        return self._random.uniform(-POSITION_NOISE, POSITION_NOISE, 2)


class FastPointMaze:
    """A PointMaze's simulation without the environment around it; equal to it bit for bit."""

    def __init__(self, environment: FixedGoalPointMaze) -> None:
        """Takes over the model and data of `environment`."""
        import mujoco

        self._mujoco = mujoco
        self._model, self._data = environment.model, environment.data

    @property
    def state(self) -> npt.NDArray[np.float64]:
        """Position and velocity, shape (4,)."""
        return np.concatenate([self._data.qpos, self._data.qvel])

    def set_state(self, position: Point, velocity: Point) -> None:
        """Puts the ball there."""
        self._data.qpos[:] = position
        self._data.qvel[:] = velocity
        self._mujoco.mj_forward(self._model, self._data)

    def step(self, action: npt.NDArray[np.float32]) -> None:
        """One step of 0.01 s."""
        np.clip(self._data.qvel, -MAX_SPEED, MAX_SPEED, out=self._data.qvel)
        self._data.ctrl[:] = action
        # PointMaze calls mj_forward here as well; mj_step does the same computation again.
        self._mujoco.mj_step(self._model, self._data)


def generate(
    config: PointMazeConfig, on_progress: Callable[[int, int], None] = lambda _done, _all: None
) -> Trajectory:
    """One continuous trajectory of D4RL's waypoint controller; a function of `config` alone.
    `on_progress` is told the steps made and the steps wanted now and then.

    Raises:
        DataError: The simulator is not installed.
    """
    maze, simulation = find_maze(config.maze), FastPointMaze(_environment(config.maze))
    random = np.random.default_rng(config.seed)
    start = maze.free_cells[int(random.integers(len(maze.free_cells)))]
    noise = random.uniform(-POSITION_NOISE, POSITION_NOISE, 2)
    simulation.set_state(maze.centre(start) + noise, START_SPEED * random.standard_normal(2))
    controller = WaypointController(maze, config.noise, random)
    controller.choose_goal(simulation.state[:2])
    states = np.empty((config.steps + 1, 4))
    actions = np.empty((config.steps, 2), np.float32)
    goals, cuts = np.empty((config.steps, 2)), np.zeros(config.steps, np.bool_)
    states[0], since = simulation.state, 0
    for step in range(config.steps):
        state = states[step]
        actions[step], goals[step] = controller.act(state[:2], state[2:]), controller.goal
        simulation.step(actions[step])
        states[step + 1], since = simulation.state, since + 1
        if controller.reached(states[step + 1, :2]) or since == maze.max_episode_steps:
            cuts[step], since = True, 0
            controller.choose_goal(states[step + 1, :2])
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == config.steps:
            on_progress(step + 1, config.steps)
    return Trajectory(states, actions, goals, cuts)


def record(config: PointMazeConfig, on_progress: Callable[[int, int], None]) -> Recording:
    """Generates the steps of a dataset and cuts them into its episodes.

    Rewards are relative to the maze's fixed evaluation goal, whatever the navigation goal was, and
    so is `desired_goal`; the navigation goal is kept as `infos/navigation_goal`. An episode is a
    stretch to one navigation goal; nothing terminates. With `config.pixels` observations are those
    of `PointMazePixels`.

    Raises:
        DataError: The simulator is not installed.
    """
    maze, simulated = find_maze(config.maze), _environment(config.maze)
    from gymnasium.envs.registration import WrapperSpec

    from common.data.environments import POINT_MAZE, recorded_spec

    environment: gymnasium.Env[Any, Any] = simulated
    spec = recorded_spec(
        POINT_MAZE,
        config.max_episode_steps or maze.max_episode_steps,
        maze=config.maze if isinstance(config.maze, str) else list(config.maze),
    )
    painter = None
    if config.pixels:
        seen = "common.data.pointmaze_pixels:PointMazePixels", {"pixels": config.pixels}
        spec.additional_wrappers = (WrapperSpec("PointMazePixels", *seen),)
        environment = PointMazePixels(simulated, config.pixels)
        painter = MazePainter(maze, config.pixels)
    metadata: dict[str, Any] = {
        "algorithm_name": "waypoint controller",
        "description": f"D4RL's waypoint controller in PointMaze ({maze.name}).",
    }
    if maze.reference_scores is not None:
        low, high = maze.reference_scores
        metadata |= {"ref_min_score": low, "ref_max_score": high}
    trajectory = generate(config, on_progress)
    return Recording(
        _episodes(trajectory, maze, painter),
        environment,
        spec,
        metadata,
    )


def _episodes(
    trajectory: Trajectory, maze: Maze, painter: MazePainter | None
) -> Iterator[EpisodeArrays]:
    """One after the other, so that the pictures of one are in memory at a time."""
    goal = maze.centre(maze.goal_cell)
    positions = trajectory.states[:, :2]
    # A step is rewarded for where it ends, as the environment does.
    rewards = goal_reward(positions[1:], goal)
    ends = np.unique([*(np.flatnonzero(trajectory.cuts) + 1), len(rewards)])
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        span, steps = slice(start, end + 1), int(end - start)
        last = np.arange(steps) == steps - 1
        goals = trajectory.goals[start:end]
        states = trajectory.states[span]
        observations: dict[str, npt.NDArray[Any]]
        if painter is not None:
            observations = {"image": painter(positions[span]), "velocity": states[:, 2:]}
        else:
            observations = {
                "observation": states,
                "achieved_goal": positions[span],
                "desired_goal": np.tile(goal, (steps + 1, 1)),
            }
        yield EpisodeArrays(
            observations=observations,
            actions=trajectory.actions[start:end],
            rewards=rewards[start:end],
            terminations=np.zeros_like(last),
            truncations=last,
            infos={"navigation_goal": np.concatenate([goals, goals[-1:]])},
        )


def _environment(maze: str | Sequence[str]) -> FixedGoalPointMaze:
    try:
        from common.data.pointmaze_env import FixedGoalPointMaze
    except ImportError as error:
        raise DataError(
            f"data.generate: PointMaze is not installed here ({error}); install the extra `maze`"
        ) from error
    return FixedGoalPointMaze(maze)
