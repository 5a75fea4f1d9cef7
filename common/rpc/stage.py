"""What a training stage is doing: written by the training loop, read by `StageService.Watch`."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from typing import Any, SupportsFloat

from common.rpc import metrics as exported
from ldcq.v1 import stage_pb2, stage_pb2_grpc

_LOGGER = logging.getLogger(__name__)

FULL_NAME = stage_pb2.DESCRIPTOR.services_by_name["StageService"].full_name

_RATE_WINDOW_SECONDS = 10.0
_SHORTEST_INTERVAL_SECONDS = 0.1
_STATES = {
    stage_pb2.STAGE_STATE_WAITING: "waiting",
    stage_pb2.STAGE_STATE_RUNNING: "running",
    stage_pb2.STAGE_STATE_PUBLISHED: "published",
    stage_pb2.STAGE_STATE_FAILED: "failed",
}
_FINAL = (stage_pb2.STAGE_STATE_PUBLISHED, stage_pb2.STAGE_STATE_FAILED)


class Progress:
    """The progress of one stage; one writer, any number of readers, all thread-safe."""

    def __init__(self, stage: str) -> None:
        """Starts as "not started"; `stage` is a key of `STAGES`."""
        self._lock = threading.RLock()
        self._current = stage_pb2.StageServiceWatchResponse(stage=stage)
        self._revision = 0
        self._history: deque[tuple[float, int]] = deque()

    def waiting(self, message: str, kind: str = "") -> None:
        """The stage waits for what `message` names; also logged, for those who do not watch. It is
        an artifact of `kind`, or a service.
        """
        _LOGGER.info("%s: %s", self._current.stage, message)
        state = stage_pb2.STAGE_STATE_WAITING
        self._change(state=state, message=message, waiting_for=kind)

    def running(
        self,
        step: int,
        total: int,
        metrics: Mapping[str, SupportsFloat] | None = None,
        message: str = "",
    ) -> None:
        """The stage has done `step` of `total` steps; metrics not named keep their last value."""
        with self._lock:
            values = {name: float(value) for name, value in (metrics or {}).items()}
            self._current.metrics.update(values)
            moved: dict[str, Any] = {"step": step, "total": total, "rate": self._rate(step)}
            self._export(values, **moved)
            self._change(state=stage_pb2.STAGE_STATE_RUNNING, message=message, **moved)

    def published(self, version: str, reused: bool = False) -> None:
        """The stage's artifact is in the store; `reused` when it was there already."""
        message = "nothing to do, already published" if reused else "published"
        state = stage_pb2.STAGE_STATE_PUBLISHED
        self._change(state=state, message=message, artifact_version=version, reused=reused)

    def failed(self, message: str) -> None:
        """The stage has given up; `message` says why and what to do."""
        self._change(state=stage_pb2.STAGE_STATE_FAILED, message=message)

    def snapshot(self) -> stage_pb2.StageServiceWatchResponse:
        """The progress now; the caller's own copy."""
        copy = stage_pb2.StageServiceWatchResponse()
        with self._lock:
            copy.CopyFrom(self._current)
        return copy

    async def updates(
        self, timeout: float = 1.0, stop: threading.Event | None = None
    ) -> AsyncIterator[stage_pb2.StageServiceWatchResponse]:
        """The progress at once, then whenever it changed, and after `timeout` seconds in any case.

        A reader slower than the writer gets the latest state, not every state. Ends after the stage
        has published or failed, or soon after `stop` was set.
        """
        seen, due = -1, 0.0
        while True:
            with self._lock:
                revision, current = self._revision, self.snapshot()
            if revision != seen or time.monotonic() >= due:
                seen, due = revision, time.monotonic() + timeout
                yield current
            if current.state in _FINAL or (stop is not None and stop.is_set()):
                return
            # The writer is another thread, which no event loop waits for.
            await asyncio.sleep(_SHORTEST_INTERVAL_SECONDS)

    def _change(self, **fields: Any) -> None:
        with self._lock:
            for name, value in {"waiting_for": "", **fields}.items():
                setattr(self._current, name, value)
            for state, name in _STATES.items():
                known = state == self._current.state
                exported.STAGE_STATE.labels(self._current.stage, name).set(known)
            self._revision += 1

    def _export(self, values: Mapping[str, float], step: int, total: int, rate: float) -> None:
        """Under the lock, before the change; what was done in an earlier process is not counted."""
        stage = self._current.stage
        started = self._current.state == stage_pb2.STAGE_STATE_RUNNING
        done = max(0, step - self._current.step) if started else 0
        exported.STAGE_UPDATES.labels(stage).inc(done)
        exported.STAGE_STEP.labels(stage).set(step)
        exported.STAGE_STEPS.labels(stage).set(total)
        exported.STAGE_RATE.labels(stage).set(rate)
        for name, value in values.items():
            exported.STAGE_METRIC.labels(stage, name).set(value)

    def _rate(self, step: int) -> float:
        """Steps per second over the last seconds; starts anew when the step goes back."""
        now = time.monotonic()
        if self._history and step < self._history[-1][1]:
            self._history.clear()
        self._history.append((now, step))
        while len(self._history) > 2 and now - self._history[0][0] > _RATE_WINDOW_SECONDS:
            self._history.popleft()
        (start, first), (end, last) = self._history[0], self._history[-1]
        return (last - first) / (end - start) if end > start else 0.0


class StageServicer(stage_pb2_grpc.StageServiceServicer):
    """`StageService` over one `Progress`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._draining = threading.Event()

    async def Watch(  # noqa: N802
        self,
        request: stage_pb2.StageServiceWatchRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[stage_pb2.StageServiceWatchResponse]:
        """Streams the progress until the stage is done or the server drains."""
        async for update in self._progress.updates(stop=self._draining):
            yield update

    def on_drain(self) -> None:
        """Ends the streams: a server that stops must not wait for a stage that will not go on."""
        self._draining.set()
