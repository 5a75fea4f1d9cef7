"""Minari, D4RL HDF5 and generated data to episodes, and their tasks; NumPy only, never torch."""

from common.data.loading import (
    ensure_dataset,
    is_on_this_machine,
    load_episodes,
    open_dataset,
)
from common.data.task import (
    Layout,
    Task,
    behaviour_episodes,
    load_task,
    make_evaluation_env,
    reference_scores,
)

__all__ = [
    "Layout",
    "Task",
    "behaviour_episodes",
    "ensure_dataset",
    "is_on_this_machine",
    "load_episodes",
    "load_task",
    "make_evaluation_env",
    "open_dataset",
    "reference_scores",
]
