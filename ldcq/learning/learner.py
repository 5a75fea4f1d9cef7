"""What a training loop steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Stopped(Exception):  # noqa: N818 - no error: the process was asked to end, and did so in order
    """Work was asked to stop (SIGTERM, SIGINT) and can be resumed.

    Deliberately no subclass of an error: whoever reports errors must not report this one.
    """


class Learner(Protocol):
    """What a stage trains."""

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        """Makes one optimiser step, `step` counting from 0; returns scalar metrics."""
        ...

    def validate(self) -> Mapping[str, Tensor | float]:
        """Metrics on held-out data."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that decides the coming updates: weights, optimiser, averages, generators, replay."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        ...
