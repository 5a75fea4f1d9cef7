"""The metrics every gRPC server has."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

REQUESTS = Counter(
    "ldcq_rpc_requests_total", "Calls answered, by method and status code.", ["method", "code"]
)
SECONDS = Histogram(
    "ldcq_rpc_seconds",
    "Seconds from the start of a call's handler to its end, by method.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
