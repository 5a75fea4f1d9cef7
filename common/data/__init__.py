"""Minari, D4RL HDF5 and generated data to episodes and H-step windows; NumPy only, never torch."""

from common.data.episodes import DataError, Episodes, Spaces
from common.data.loading import (
    ensure_dataset,
    is_on_this_machine,
    load_episodes,
    open_dataset,
)
from common.data.statistics import Statistics, state_statistics
from common.data.task import (
    Layout,
    Task,
    behaviour_episodes,
    load_task,
    make_evaluation_env,
    reference_scores,
)
from common.data.windows import Windows, make_windows

__all__ = [
    "DataError",
    "Episodes",
    "Layout",
    "Spaces",
    "Statistics",
    "Task",
    "Windows",
    "behaviour_episodes",
    "ensure_dataset",
    "is_on_this_machine",
    "load_episodes",
    "load_task",
    "make_evaluation_env",
    "make_windows",
    "open_dataset",
    "reference_scores",
    "state_statistics",
]
