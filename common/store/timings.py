"""How long it took to make what is in a store; kept beside the artifacts, as it decides nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, JsonValue

from common.store.artifacts import Store
from common.store.errors import StoreError
from common.store.files import refusal, replace_atomically
from common.store.meta import digest

_LOGGER = logging.getLogger(__name__)


class Timing(BaseModel):
    """What the making of one artifact took.

    Attributes:
        seconds: Wall time of all processes that worked on it one after the other, what they
            computed twice included.
        lost: Processes among them that were killed before they could say how long they had worked.
        open: One works on it, or was killed.
        updates: Steps of the optimiser, where it is a model that was trained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float = 0.0
    lost: int = 0
    open: bool = False
    updates: int | None = None


class Stopwatch:
    """Times the making of one artifact: `with Stopwatch(store, kind, spec): ...`.

    Interrupted work is counted as well, and the next process adds to it.

    Attributes:
        updates: To be noted with the time; None: nothing is trained.
    """

    def __init__(self, store: Store, kind: str, spec: Mapping[str, JsonValue]) -> None:
        self._path = _path(store, kind, spec)
        self._before = Timing()
        self._started = 0.0
        self.updates: int | None = None

    def __enter__(self) -> Self:
        found = _read(self._path) or Timing()
        self._before = Timing(seconds=found.seconds, lost=found.lost + found.open)
        self._started = time.monotonic()
        _write(self._path, self._before.model_copy(update={"open": True}))
        return self

    def __exit__(self, *_: object) -> None:
        seconds = self._before.seconds + time.monotonic() - self._started
        changes = {"seconds": seconds, "updates": self.updates}
        _write(self._path, self._before.model_copy(update=changes))


def lineage_timings(store: Store, kind: str, version: str) -> dict[tuple[str, str], Timing]:
    """What the making of a version took, and of everything in the store that it was made from.

    Returns:
        By kind and version; what nobody timed is left out.

    Raises:
        StoreError: A version is not in the store.
    """
    found = {
        item: _read(_path(store, item[0], meta.spec))
        for item, meta in store.lineage(kind, version).items()
    }
    return {item: timing for item, timing in found.items() if timing is not None}


def _path(store: Store, kind: str, spec: Mapping[str, JsonValue]) -> Path:
    return store.root / "timings" / kind / f"{digest(dict(spec))}.json"


def _read(path: Path) -> Timing | None:
    try:
        return Timing.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        _LOGGER.warning("%s is damaged; the time it told is lost", path)
        return Timing(lost=1)


def _write(path: Path, value: Timing) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(path, value.model_dump_json().encode())
    except OSError as error:
        raise StoreError(f"cannot write {path}: {refusal(error)}") from error
