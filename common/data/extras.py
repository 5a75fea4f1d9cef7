"""Which extra of this project has a package of environments."""

from __future__ import annotations

import importlib.util
from typing import Final

from ldcq.data.episodes import DataError

EXTRAS: Final = {
    "ogbench": "ogbench",
    "gymnasium_robotics": "maze",
    "mujoco": "maze",
    "Box2D": "box2d",
    "pygame": "box2d",
}
"""Extras of this project that have the packages of environments."""


def require(package: str, wanted: str) -> None:
    """Checks that a package of environments is here.

    Args:
        package: One of `EXTRAS`.
        wanted: What needs it: a field of the configuration, with its value where that matters.

    Raises:
        DataError: It is not; the message says what installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise DataError(f"{wanted}: needs {package}: pip install 'ldcq[{EXTRAS[package]}]'")
