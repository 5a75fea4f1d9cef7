"""What the prior server counts, for Prometheus; its calls by method and code are in
`common.rpc.metrics`.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_MILLISECONDS = (0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12.5, 15, 20, 25, 30, 40, 50, 70)
_CALL_BUCKETS = (*(ms / 1000 for ms in _MILLISECONDS), 0.1, 0.3, 1, 3, 10, 30, 100)
_ROW_BUCKETS = tuple(4**power for power in range(11))
_STEP_BUCKETS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)

SAMPLE_SECONDS = Histogram(
    "ldcq_prior_sample_seconds",
    "Seconds of answered Sample calls by stage (queue, compute, total) and priority.",
    ["stage", "priority"],
    buckets=_CALL_BUCKETS,
)
STEP_SECONDS = Histogram(
    "ldcq_prior_step_seconds",
    "Seconds per denoising step of one block of rows.",
    buckets=_STEP_BUCKETS,
)
BATCH_CALLS = Histogram(
    "ldcq_prior_batch_calls",
    "Calls computed at once; a slice of a large call counts as one.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
BATCH_ROWS = Histogram("ldcq_prior_batch_rows", "Latents computed at once.", buckets=_ROW_BUCKETS)
CALL_ROWS = Histogram(
    "ldcq_prior_call_rows",
    "Latents of an answered Sample call, by priority.",
    ["priority"],
    buckets=_ROW_BUCKETS,
)
ROWS = Counter("ldcq_prior_rows_total", "Latents drawn.")
PENDING_ROWS = Gauge("ldcq_prior_pending_rows", "Latents asked for and not yet answered.")
CAPACITY_ROWS = Gauge("ldcq_prior_capacity_rows", "Pending rows above which calls are refused.")
REJECTIONS = Counter(
    "ldcq_prior_rejections_total",
    "Calls dropped without a reply, by reason (queue_full, deadline, cancelled).",
    ["reason"],
)
for _reason in ("queue_full", "deadline", "cancelled"):
    REJECTIONS.labels(_reason)  # seen as 0 before the first one
MODEL_INFO = Gauge("ldcq_prior_model_info", "1 for the version served.", ["version"])
SWAPS = Counter("ldcq_prior_swaps_total", "Models put in the place of another, the first included.")
