"""What a request for an evaluation means, and its rows as messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.rpc.errors import InvalidFieldError, TooLargeError
from ldcq.config import Config, override
from ldcq.v1 import actor_pb2

MAX_EPISODES = 1000
"""Of each method in one request: their rewards and trajectories are held in memory, and nobody else
may evaluate meanwhile."""


def evaluation_config(base: Config, request: actor_pb2.ActorServiceEvaluateRequest) -> Config:
    """The configuration with what the request changes.

    Raises:
        InvalidFieldError: A method that is not configured, or an impossible number of episodes.
        TooLargeError: More episodes than one request may ask for.
    """
    known = base.evaluation.methods
    for method in request.methods:
        if method not in known:
            raise InvalidFieldError("methods", repr(method), f"some of {', '.join(known)}")
    most = most_episodes(base)
    if request.episodes < 0:
        raise InvalidFieldError("episodes", request.episodes, f"0 to {most}")
    if request.episodes > most:
        raise TooLargeError("episodes", request.episodes, most, "episodes")
    changes: dict[str, object] = {}
    if request.methods:
        tree = base.model_dump(mode="json")["evaluation"]["methods"]
        changes["evaluation.methods"] = {name: tree[name] for name in request.methods}
    if request.episodes:
        changes["evaluation.episodes"] = request.episodes
    if request.HasField("seed"):
        changes["evaluation.seed"] = request.seed
    return override(base, changes)


def most_episodes(base: Config) -> int:
    """The most episodes of one request; what is configured is always possible."""
    return max(MAX_EPISODES, base.evaluation.episodes)


def score_row(row: Mapping[str, Any]) -> actor_pb2.ScoreRow:
    """A row of an evaluation as a message."""
    first_hit, success_score = row["first_hit"], row["success_score"]
    return actor_pb2.ScoreRow(
        method=row["method"],
        first_hit=actor_pb2.Estimate(**first_hit) if first_hit else None,
        success=row["success"],
        success_score=actor_pb2.Estimate(**success_score) if success_score else None,
        episodes=row["episodes"],
        seed=row["seed"],
        # `return` is a keyword of the language.
        **{"return": actor_pb2.Estimate(**row["return"])},
    )
