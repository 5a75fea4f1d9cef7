"""The one training loop, its checkpoints, and the process around a stage."""

from common.training.checkpoints import CheckpointError as CheckpointError
from common.training.checkpoints import Checkpoints as Checkpoints
from common.training.device import configure_torch as configure_torch
from common.training.device import resolve_device as resolve_device
from common.training.logs import MetricLog as MetricLog
from common.training.logs import read_metrics as read_metrics
from common.training.loop import DivergedError as DivergedError
from common.training.loop import train as train
