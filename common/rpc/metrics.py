"""The metrics that every service process has: of its calls, and of its stage if it trains."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter(
    "ldcq_rpc_requests_total", "Calls answered, by method and status code.", ["method", "code"]
)
SECONDS = Histogram(
    "ldcq_rpc_seconds",
    "Seconds from a call's headers to its end, waiting for a thread included, by method.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
STAGE_STATE = Gauge(
    "ldcq_stage_state",
    "1 for the state a stage is in (waiting, running, published, failed).",
    ["stage", "state"],
)
STAGE_UPDATES = Counter(
    "ldcq_stage_updates_total", "Updates made by this process; its rate is updates/s.", ["stage"]
)
STAGE_STEP = Gauge("ldcq_stage_step", "Updates made, those of earlier processes too.", ["stage"])
STAGE_STEPS = Gauge("ldcq_stage_target_steps", "Updates that end the stage.", ["stage"])
STAGE_RATE = Gauge(
    "ldcq_stage_steps_per_second", "Updates/s over the last ten seconds of training.", ["stage"]
)
STAGE_METRIC = Gauge(
    "ldcq_stage_metric",
    "The last value of a training metric: losses, and of the critic q_mean and td_error.",
    ["stage", "metric"],
)
