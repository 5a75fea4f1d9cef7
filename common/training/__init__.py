"""The one training loop and its parts. May import `common.config`, `.store` and `.rpc.stage`."""

from common.store import Stopped
from common.training.averaging import ExponentialMovingAverage
from common.training.checkpoints import CheckpointError, Checkpoints
from common.training.descent import Descent
from common.training.device import configure_torch, resolve_device
from common.training.distributed import Ranks, ranks
from common.training.logs import MetricLog, read_metrics
from common.training.loop import DivergedError, Learner, train
from common.training.sampling import BatchSampler, epoch_indices, evenly_spread, generator
from common.training.schedule import learning_rate_schedule

__all__ = [
    "BatchSampler",
    "CheckpointError",
    "Checkpoints",
    "Descent",
    "DivergedError",
    "ExponentialMovingAverage",
    "Learner",
    "MetricLog",
    "Ranks",
    "Stopped",
    "configure_torch",
    "epoch_indices",
    "evenly_spread",
    "generator",
    "learning_rate_schedule",
    "ranks",
    "read_metrics",
    "resolve_device",
    "train",
]
