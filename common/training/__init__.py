"""The one training loop, its checkpoints, and the process around a stage."""

from common.training.checkpoints import CheckpointError, Checkpoints
from common.training.device import configure_torch, resolve_device
from common.training.logs import MetricLog, read_metrics
from common.training.loop import DivergedError, train

__all__ = [
    "CheckpointError",
    "Checkpoints",
    "DivergedError",
    "MetricLog",
    "configure_torch",
    "read_metrics",
    "resolve_device",
    "train",
]
