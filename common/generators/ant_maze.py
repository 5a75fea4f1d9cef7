"""AntMaze: a walking ant that goes from one random place of a maze to the next."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt

from common.data.maze import Cell, find_maze
from common.data.minari_writing import EpisodeArrays
from common.generators.ant import walk
from ldcq.config.generate import AntMazeConfig
from ldcq.data.episodes import DataError

EPISODE_STEPS = 1000
"""Of an episode, D4RL's and OGBench's."""
CELL = 4.0
"""Side of a cell in metres, that of `D4rlAntMaze`."""
NEAR = 1.0
"""Distance in metres at which the next waypoint is taken."""
FREE = 1.2
"""Half width of the part of a cell, in metres, in which the ant's body is clear of its walls."""


class AntNavigation:
    """Walks to a random place, and to another when it is there (OGBench's `navigate`).

    An episode starts anywhere. On its way the ant is steered at one point of every cell, drawn anew
    for every way, so that the data cover the corridors' whole width. Rewards are those of D4RL's
    evaluation: 1 within 0.5 m of the goal of the maze. Nothing terminates.
    """

    def __init__(self, config: AntMazeConfig) -> None:
        """Makes the environment.

        Raises:
            DataError: OGBench is not installed.
        """
        if importlib.util.find_spec("ogbench") is None:
            raise DataError("data.generate: needs ogbench: pip install 'ldcq[ogbench]'")
        from common.data.d4rl_env import D4rlAntMaze
        from common.data.environments import D4RL_ANT_MAZE, recorded_spec

        self.environment, self._config = D4rlAntMaze(config.maze), config
        self.evaluation = recorded_spec(D4RL_ANT_MAZE, maze=config.maze)
        self.metadata = {
            "algorithm_name": "walking ant with waypoints",
            "description": f"An ant that walks from place to place (AntMaze {config.maze}).",
        }
        self._maze = find_maze(config.maze)

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        """One episode of `EPISODE_STEPS` steps, a function of `seed` alone."""
        random = np.random.default_rng(seed)
        self.environment.reset(seed=int(seed.generate_state(1)[0]))
        cell = self._any_cell(random)
        observation = self.environment.place(self._point(cell, random))
        way: list[npt.NDArray[np.float64]] = []
        observations, actions, rewards = [observation], [], []
        for _ in range(EPISODE_STEPS):
            position = observation["achieved_goal"]
            while not way or np.linalg.norm(way[0] - position) < NEAR:
                del way[:1]
                if not way:
                    here, goal = self._cell(position), self._any_cell(random)
                    way = [self._point(each, random) for each in self._maze.path(here, goal)]
            heading = way[0] - position
            state = np.concatenate([position, observation["observation"]])
            action = walk(state, heading / np.linalg.norm(heading))
            action += self._config.noise * random.standard_normal(8)
            actions.append(np.clip(action, -1, 1).astype(np.float32))
            observation, reward, *_ = self.environment.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
        return EpisodeArrays(
            observations={
                key: np.asarray([each[key] for each in observations]) for key in observation
            },
            actions=np.asarray(actions),
            rewards=np.asarray(rewards),
            terminations=np.zeros(EPISODE_STEPS, np.bool_),
            truncations=np.arange(EPISODE_STEPS) == EPISODE_STEPS - 1,
        )

    def _any_cell(self, random: np.random.Generator) -> Cell:
        cells = self._maze.free_cells
        return cells[int(random.integers(len(cells)))]

    def _point(self, cell: Cell, random: np.random.Generator) -> npt.NDArray[np.float64]:
        """A place in the cell: D4RL's origin is the centre of the first one."""
        centre = np.array([cell[1] - 1, cell[0] - 1]) * CELL
        return np.asarray(centre + random.uniform(-FREE, FREE, 2) * self._config.spread)

    def _cell(self, position: npt.NDArray[np.float64]) -> Cell:
        column, row = np.rint(position / CELL).astype(int) + 1
        return int(row), int(column)
