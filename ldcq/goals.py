"""Goals in hindsight: a goal-conditioned prior learns that a window led to where its episode went
(section 4.3).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ldcq.config import Config, ConfigError
from ldcq.learning.batches import generator

Rows = NDArray[np.int64]


class Hindsight:
    """Chooses each window's goal among the states of its episode at or after its end.

    Windows of an episode are neighbours, one for every step, so the states after a window's end are
    the next states s_{t+H} of the windows after it.

    Args:
        config: The variant's.
        episode: Episode of every window, (M,).

    Attributes:
        indices: Entries of the state that make up a goal, (G,).
    """

    def __init__(self, config: Config, episode: Rows) -> None:
        self.indices = list(config.data.goal_indices)
        self._most = config.prior.hindsight_steps
        self._seed = config.seed
        # The last window of every episode.
        self._ends = np.append(np.flatnonzero(episode[1:] != episode[:-1]), len(episode) - 1)

    def check(self, state_dim: int) -> None:
        """Raises ConfigError where a goal has entries that a state has not."""
        if max(self.indices) >= state_dim:
            raise ConfigError(
                f"data.goal_indices is {self.indices}, expected entries of a state, 0 to "
                f"{state_dim - 1}"
            )

    def goal_rows(self, rows: Rows, *names: str | int) -> Rows:
        """Which windows' next states are the goals of some windows.

        Drawn evenly from the window itself to the last of its episode, or at most
        `prior.hindsight_steps` further on.

        Args:
            rows: Windows, (B,).
            names: Decide the draw, with the configuration's seed.

        Returns:
            Windows, (B,).
        """
        ahead = self._ends[np.searchsorted(self._ends, rows)] - rows
        if self._most is not None:
            ahead = np.minimum(ahead, self._most)
        source = generator(self._seed, "prior", "goals", *names)
        # In double precision: rounded to single, a draw could be 1.
        drawn = torch.rand(len(rows), generator=source, dtype=torch.float64).numpy()
        chosen: Rows = rows + np.floor(drawn * (ahead + 1)).astype(np.int64)
        return chosen
