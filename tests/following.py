"""Waits for what a follower of the store has loaded."""

from __future__ import annotations

import time
from typing import TypeVar

from common.store import Follower

T = TypeVar("T")


def wait_loaded(follower: Follower[T], seconds: float, version: str = "") -> tuple[str, T]:
    """Version and model, once there is one, or once it is `version`."""
    deadline = time.monotonic() + seconds
    while (current := follower.current()) is None or version not in ("", current[0]):
        assert time.monotonic() < deadline, f"no model {version} in {seconds} s"
        time.sleep(0.01)
    return current
