"""AntMaze: a walking ant that goes from one random place of a maze to the next."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.data.d4rl_env import ANT_CELL
from common.data.extras import require
from common.data.maze import GOAL_RADIUS, Cell, Maze, Point, find_maze
from common.data.minari_writing import EpisodeArrays
from common.generators.ant import is_down, walk
from ldcq.config.generate import AntMazeConfig

DOWN_STEPS = 20
"""An ant that has been on its back for so long does not get up."""
EPISODE_STEPS = 1000
"""Of an episode, D4RL's and OGBench's."""
NEAR = 1.0
"""Distance in metres at which the next waypoint is taken."""
STRAY_STEPS = 10, 40
"""How long an ant walks astray, at least, and less than."""
MOST_TURNED = np.pi / 3
"""How far a stray turns the body, to either side, if it lasts."""
FREE = 1.2
"""Half width of the part of a cell, in metres, in which the ant's body is clear of its walls."""


class Guide:
    """Steers from place to place: to a random one or the goal of the maze, and to another when it
    is reached (OGBench's `navigate`). On its way it steers at one point of every cell, drawn anew
    for every way, so that the ways cover the corridors' whole width. Now and then it leads astray,
    in one direction whatever stands there, with the body turned: who learns from it has to know how
    one leaves a wall, and how one turns back.

    Attributes:
        turn: The heading that the body is to keep, in radians; 0 but on a stray.
    """

    def __init__(
        self,
        maze: Maze,
        goal: Point,
        random: np.random.Generator,
        *,
        spread: float = 1.0,
        homing: float = 0.0,
        strays: float = 0.0,
    ) -> None:
        """`spread` is the share of a corridor's width that is used, `homing` that of the ways
        which lead to `goal`, in metres, shape (2,), `strays` that of the steps which lead astray;
        `random` draws all places.
        """
        self._maze, self._goal, self._random = maze, goal, random
        self._spread, self._homing = spread, homing
        self._way: list[Point] = []
        self.turn = 0.0
        self._chance = strays / (strays + (1 - strays) * sum(STRAY_STEPS) / 2)
        self._astray, self._aimless = 0, np.zeros(2)

    def place(self) -> Point:
        """Somewhere in the maze, in metres along D4RL's axes, shape (2,)."""
        cells = self._maze.free_cells
        return self._point(cells[int(self._random.integers(len(cells)))])

    def heading(self, position: Point) -> Point:
        """Where to go from a position, as a unit vector; shape (2,) each."""
        if self._strays(position):
            return self._aimless
        while not self._way or self._passed(position):
            del self._way[:1]
            if not self._way:
                homes = self._homing and self._random.random() < self._homing
                self._lead(position, self._goal if homes else self.place())
        away = self._way[0] - position
        return np.asarray(away / np.linalg.norm(away))

    def _passed(self, position: Point) -> bool:
        near = NEAR if len(self._way) > 1 else GOAL_RADIUS
        return bool(np.linalg.norm(self._way[0] - position) < near)

    def _lead(self, position: Point, place: Point) -> None:
        path = self._maze.path(_cell(position), _cell(place))
        self._way = [*map(self._point, path[:-1]), place]

    def _strays(self, position: Point) -> bool:
        """Whether this step leads astray; after the last one the way to the same goal is found
        anew.
        """
        if self._astray == 0:
            if self._chance and self._random.random() < self._chance:
                self._astray = int(self._random.integers(*STRAY_STEPS))
                angle = self._random.uniform(0, 2 * np.pi)
                self._aimless = np.array([np.cos(angle), np.sin(angle)])
                self.turn = self._random.uniform(-MOST_TURNED, MOST_TURNED)
        else:
            self._astray -= 1
            if self._astray == 0:
                self.turn = 0.0
                if self._way:
                    self._lead(position, self._way[-1])
        return self._astray > 0

    def _point(self, cell: Cell) -> Point:
        """A place in the cell: D4RL's origin is the centre of the first one."""
        centre = np.array([cell[1] - 1, cell[0] - 1]) * ANT_CELL
        return np.asarray(centre + self._spread * self._random.uniform(-FREE, FREE, 2))


def _cell(position: Point) -> Cell:
    column, row = np.rint(position / ANT_CELL).astype(int) + 1
    return int(row), int(column)


class AntNavigation:
    """Walks where a `Guide` steers, from anywhere in the maze and with its body turned by any
    angle.

    Rewards are those of D4RL's evaluation: 1 within 0.5 m of the goal of the maze. Nothing
    terminates; an episode is cut off where the ant has fallen on its back, as it stays there.
    """

    def __init__(self, config: AntMazeConfig) -> None:
        """Makes the environment.

        Raises:
            DataError: OGBench is not installed.
        """
        require("ogbench", "data.generate")
        from common.data.d4rl_env import D4rlAntMaze
        from common.data.environments import D4RL_ANT_MAZE, recorded_spec

        self.environment, self._config = D4rlAntMaze(config.maze), config
        self.evaluation = recorded_spec(D4RL_ANT_MAZE, maze=config.maze)
        self.metadata = {
            "algorithm_name": "walking ant with waypoints",
            "description": f"An ant that walks from place to place (AntMaze {config.maze}).",
        }

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        """One episode of at most `EPISODE_STEPS` steps, a function of `seed` alone."""
        random = np.random.default_rng(seed)
        config = self._config
        guide = Guide(
            find_maze(config.maze),
            self.environment.goal,
            random,
            spread=config.spread,
            homing=config.homing,
            strays=config.strays,
        )
        self.environment.reset(seed=int(seed.generate_state(1)[0]))
        observation = self.environment.place(guide.place(), random.uniform(-np.pi, np.pi))
        observations, down = [observation], 0
        actions: list[npt.NDArray[np.float32]] = []
        rewards: list[float] = []
        while len(actions) < EPISODE_STEPS and down < DOWN_STEPS:
            position = observation["achieved_goal"]
            state = np.concatenate([position, observation["observation"]])
            action = walk(state, guide.heading(position), guide.turn)
            action += config.noise * random.standard_normal(len(action))
            actions.append(np.clip(action, -1, 1).astype(np.float32))
            observation, reward, *_ = self.environment.step(actions[-1])
            observations.append(observation)
            rewards.append(reward)
            down = down + 1 if is_down(observation["observation"]) else 0
        return EpisodeArrays(
            observations={
                key: np.asarray([each[key] for each in observations]) for key in observation
            },
            actions=np.asarray(actions),
            rewards=np.asarray(rewards),
            terminations=np.zeros(len(actions), np.bool_),
            truncations=np.arange(len(actions)) == len(actions) - 1,
        )
