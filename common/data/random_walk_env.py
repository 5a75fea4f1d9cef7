"""The one-dimensional random walk of supplement D as an environment.

`common.data.environments` registers it. Recorded data name this class: it stays where it is.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

LIMIT = 10.0
"""The states are [-10, 10]."""
END_REWARD, STEP_REWARD = 10.0, -1.0
MAX_EPISODE_STEPS = 500
"""The paper's time limit."""

State = npt.NDArray[np.float32]


class RandomWalk(gymnasium.Env[State, npt.NDArray[np.floating[Any]]]):
    """A point on [-10, 10] that starts at 0; an action is the distance it moves, at most 1.

    Reaching either end gives 10 and ends the episode; every other step gives -1.
    """

    metadata: dict[str, Any] = {"render_modes": [], "first_hit": False}  # noqa: RUF012 (Gymnasium's)

    def __init__(self, render_mode: str | None = None) -> None:
        """Takes the `render_mode` None; there is nothing to see."""
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-LIMIT, LIMIT, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
        self._position = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[State, dict[str, Any]]:
        """Starts an episode, at `options["position"]` or 0; nothing is drawn."""
        super().reset(seed=seed)
        self._position = float((options or {}).get("position", 0.0))
        return self._state(), {}

    def step(
        self, action: npt.NDArray[np.floating[Any]]
    ) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Moves by `action`, clipped to [-1, 1] and to the ends."""
        moved = self._position + float(np.clip(action, -1.0, 1.0)[0])
        self._position = float(np.clip(moved, -LIMIT, LIMIT))
        reached = abs(self._position) == LIMIT
        return self._state(), END_REWARD if reached else STEP_REWARD, reached, False, {}

    def _state(self) -> State:
        return np.array([self._position], np.float32)
