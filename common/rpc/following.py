"""What a server that follows the published models answers with."""

from __future__ import annotations

from typing import TypeVar

from common.rpc.errors import NotReadyError
from common.stages import STAGES
from common.store import Follower

T = TypeVar("T")


def current_model(follower: Follower[T], name: str) -> tuple[str, T]:
    """The version and the model that a server answers with now.

    Args:
        follower: Holds it.
        name: Of the kind of model, as a reader knows it; in small letters that of its stage.

    Raises:
        NotReadyError: None has been published, or none could be loaded yet.
    """
    current = follower.current()
    if current is None:
        missing = f"no {name} has been published yet; made by {STAGES[name.lower()].command()}"
        raise NotReadyError(follower.problem or missing)
    return current
