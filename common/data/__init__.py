"""Minari, D4RL HDF5 and generated data to episodes and H-step windows; NumPy only, never torch."""

from common.data.episodes import DataError, Episodes, Spaces
from common.data.statistics import Statistics, state_statistics
from common.data.windows import Windows, make_windows

__all__ = [
    "DataError",
    "Episodes",
    "Spaces",
    "Statistics",
    "Windows",
    "make_windows",
    "state_statistics",
]
