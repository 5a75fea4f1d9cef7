"""A served model that follows the store: the new one is loaded beside the old, then replaces it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from common.store.artifacts import Store
from common.store.errors import StoreError
from common.store.meta import Artifact

_LOGGER = logging.getLogger(__name__)

T = TypeVar("T")


class Follower(Generic[T]):
    """Keeps an artifact of a kind loaded: the current one, or the one that is `wanted`.

    A reader takes one reference with `current()` and works with it to the end: a swap never touches
    it. An artifact that cannot be loaded is logged and the one before stays.
    """

    def __init__(
        self,
        store: Store,
        kind: str,
        variant: str,
        load: Callable[[Artifact], T],
        *,
        wanted: Callable[[], str | None] | None = None,
        poll: float = 1.0,
        on_swap: Callable[[str, T], None] | None = None,
    ) -> None:
        """Does not start yet.

        Args:
            store: Where to look.
            kind: Which pointer to follow.
            variant: Whose pointer.
            load: Makes a model of an artifact; runs in the follower's thread.
            wanted: Says which version to serve; None: the one that the pointer names.
            poll: Seconds between looks.
            on_swap: Called with version and model right after a model became the current one.
        """
        self._store, self._kind, self._variant = store, kind, variant
        self._load, self._poll, self._on_swap = load, poll, on_swap
        self.wanted = wanted or partial(store.current, kind, variant)
        self._current: tuple[str, T] | None = None
        self._refused: tuple[str, str] | None = None
        self.problem = ""
        """That the current artifact cannot be loaded, for callers, without paths; else empty."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{kind}", daemon=True)

    def start(self) -> None:
        """Starts to follow, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread; the model stays."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()

    def current(self) -> tuple[str, T] | None:
        """Version and model, or None before the first."""
        return self._current

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._look()
            except Exception as error:
                # Serving what we have beats dying; said once per cause, not at every look.
                cause = (type(error).__name__, str(error))
                self.problem = f"{self._kind}: cannot be loaded; the server's log says why"
                if cause != self._refused:
                    self._refused = cause
                    self._report(error)
            self._stop.wait(self._poll)

    def _report(self, error: Exception) -> None:
        kept = "nothing is served yet" if self._current is None else "keeping the one before"
        _LOGGER.error(
            "cannot load the current %s of %s, %s: %s",
            *(self._kind, self._variant, kept, error),
            # The store's own errors say what to do; of anything else the traceback is needed.
            exc_info=None if isinstance(error, StoreError) else error,
        )

    def _look(self) -> None:
        version = self.wanted()
        if version is None or (self._current is not None and self._current[0] == version):
            return
        model = self._load(self._store.load(self._kind, version))
        self._current = (version, model)
        self._refused, self.problem = None, ""
        _LOGGER.info("serving %s %s of %s", self._kind, version, self._variant)
        if self._on_swap is not None:
            self._on_swap(version, model)
