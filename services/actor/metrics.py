"""What the actor counts, for Prometheus; its calls by method and code are in
`common.rpc.metrics`.
"""

from __future__ import annotations

from prometheus_client import Histogram, Summary

_BUCKETS = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)

RETURNS = Summary(
    "ldcq_actor_episode_return",
    "Undiscounted returns of finished episodes, in units of reward, by method.",
    ["method"],
)
SUCCESSES = Summary(
    "ldcq_actor_episode_success",
    "1 for each finished episode with success, as it is scored, 0 for the others, by method.",
    ["method"],
)
CHOOSE_SECONDS = Histogram(
    "ldcq_actor_choose_seconds",
    "Seconds to choose latents: candidates from the prior, and their ranking, by method.",
    ["method"],
    buckets=_BUCKETS,
)
DECODE_SECONDS = Histogram(
    "ldcq_actor_decode_seconds",
    "Seconds to decode the actions of one step of all environments.",
    buckets=_BUCKETS,
)
