"""Minari, D4RL HDF5 and generated data to episodes, and their tasks; NumPy only, never torch."""

from common.data.loading import ensure_dataset as ensure_dataset
from common.data.loading import fingerprint as fingerprint
from common.data.loading import is_on_this_machine as is_on_this_machine
from common.data.loading import load_episodes as load_episodes
from common.data.loading import open_dataset as open_dataset
from common.data.minari import NoEnvironmentError as NoEnvironmentError
from common.data.task import Layout as Layout
from common.data.task import Task as Task
from common.data.task import behaviour_episodes as behaviour_episodes
from common.data.task import check_rewards as check_rewards
from common.data.task import load_task as load_task
