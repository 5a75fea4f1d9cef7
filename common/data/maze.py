"""The mazes of D4RL's maze2d and those of your own: free cells, coordinates, goals, shortest paths.
NumPy only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ldcq.config.maze_map import BOTH, GOAL, START, WALL, maze_rows

Cell = tuple[int, int]
Point = npt.NDArray[np.float64]
LAYOUTS: dict[str, str] = {
    "umaze": "##### #G..# ###.# #...# #####",
    "medium": "######## #..##..# #..#...# ##...### #..#...# #.#..#.# #...#.G# ########",
    "large": (
        "############ #....#.....# #.##.#.#.#.# #......#...# #.####.###.# "
        "#..#.#.....# ##.#.#.#.### #..#...#.G.# ############"
    ),
}
OWN_EPISODE_STEPS = 300
"""Time limit of an evaluation in a maze that D4RL has none for."""


@dataclass(frozen=True)
class Maze:
    """One maze on cells of 1 m by 1 m, centred on the origin.

    x grows with the column, y falls with the row.

    Attributes:
        name: D4RL's name, or `custom`.
        rows: The map, as `ldcq.config.maze_map.maze_rows` returns it.
        max_episode_steps: Length of an evaluation episode.
        reference_scores: D4RL's returns that score 0 (random) and 100 (its planner); None where
            nobody has measured any.
    """

    name: str
    rows: tuple[str, ...]
    max_episode_steps: int = OWN_EPISODE_STEPS
    reference_scores: tuple[float, float] | None = None

    @cached_property
    def walls(self) -> npt.NDArray[np.bool_]:
        """Where cells are walls, shape (rows, columns)."""
        return np.array([[cell == WALL for cell in row] for row in self.rows])

    @cached_property
    def free_cells(self) -> list[Cell]:
        """Cells that are no walls, row by row."""
        return [(int(row), int(column)) for row, column in np.argwhere(~self.walls)]

    @cached_property
    def goal_cell(self) -> Cell:
        """Row and column of the evaluation goal."""
        return self._cells_of(GOAL + BOTH)[0]

    @cached_property
    def start_cells(self) -> list[Cell]:
        """Where evaluation episodes start: cells marked so, or all free ones."""
        return self._cells_of(START + BOTH) or self.free_cells

    def _cells_of(self, marks: str) -> list[Cell]:
        return [cell for cell in self.free_cells if self.rows[cell[0]][cell[1]] in marks]

    def centre(self, cell: Cell) -> Point:
        """Position of a cell's centre in metres, shape (2,)."""
        rows, columns = self.walls.shape
        return np.array([cell[1] + 0.5 - columns / 2, rows / 2 - cell[0] - 0.5])

    def cell(self, position: Point) -> Cell:
        """The cell that holds a position."""
        rows, columns = self.walls.shape
        return int(np.floor(rows / 2 - position[1])), int(np.floor(position[0] + columns / 2))

    def path(self, start: Cell, goal: Cell) -> list[Cell]:
        """A shortest path over free neighbouring cells, without `start`, up to and with `goal`.

        Breadth-first search gives the greedy paths of D4RL's value iteration over cells.
        """
        steps = self._distances(goal)
        path, cell = [], start
        while cell != goal:
            cell = min(self._neighbours(cell), key=lambda neighbour: steps[neighbour])
            path.append(cell)
        return path

    def _distances(self, goal: Cell) -> dict[Cell, int]:
        distances, queue = {goal: 0}, deque([goal])
        while queue:
            cell = queue.popleft()
            for neighbour in self._neighbours(cell):
                if neighbour not in distances:
                    distances[neighbour] = distances[cell] + 1
                    queue.append(neighbour)
        return distances

    def _neighbours(self, cell: Cell) -> list[Cell]:
        row, column = cell
        around = ((row, column + 1), (row, column - 1), (row + 1, column), (row - 1, column))
        return [neighbour for neighbour in around if not self.walls[neighbour]]


MAZES: dict[str, Maze] = {
    name: Maze(name, maze_rows(LAYOUTS[name].split()), max_episode_steps, reference_scores)
    for name, max_episode_steps, reference_scores in (
        ("umaze", 300, (23.85, 161.86)),
        ("medium", 600, (13.13, 277.39)),
        ("large", 800, (6.7, 273.99)),
    )
}


def find_maze(maze: str | Sequence[object]) -> Maze:
    """D4RL's maze of that name, or the maze of a map (see `ldcq.config.maze_map`)."""
    return MAZES[maze] if isinstance(maze, str) else Maze("custom", maze_rows(maze))


GOAL_RADIUS = 0.5
"""Distance from the goal, in metres, up to which D4RL gives reward 1."""


def goal_reward(
    achieved: npt.NDArray[np.float64], desired: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """1 within `GOAL_RADIUS`, else 0, for positions (..., 2); of the shape of the leading axes."""
    distance = np.linalg.norm(achieved - desired, axis=-1)
    return np.asarray(distance <= GOAL_RADIUS, np.float64)


POSITION_NOISE = 0.1
"""Half width of the uniform noise on start positions, navigation goals and waypoints, in metres."""
START_SPEED = 0.1
"""Standard deviation of the start velocity, in metres per second."""
