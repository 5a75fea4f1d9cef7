"""The life of a service process around its stage: listen, train, report how it ended, serve."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from common.rpc import stage
from common.rpc.entry import explanation
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.rpc.signals import StopSignals
from common.rpc.stage import Progress, StageServicer
from common.training.context import StageContext
from ldcq.learning.distributed import joined
from ldcq.learning.learner import Stopped
from ldcq.v1 import stage_pb2_grpc

_LOGGER = logging.getLogger(__name__)

Run = Callable[[StageContext], str]


class Models(Protocol):
    """What follows the published models of a server, a `Follower` for example."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


def train_process(
    name: str,
    run: Run,
    settings: ServiceSettings,
    on_start: Callable[[str], None] = lambda _: None,
) -> int:
    """Trains, with `StageService` answering meanwhile, and ends.

    Started by `torchrun`, the processes train together; the first of them listens.

    Returns:
        The process's exit code: 0 published, 1 failed, 143 or 130 stopped by a signal.

    Raises:
        ServerError: The address cannot be bound.
    """
    with joined() as together:
        if not together.first:
            with StopSignals() as signals:
                done = run_stage(run, settings, Progress(name), signals.event)
                return 0 if done else signals.exit_code or 1
        server = _server(settings)
        progress = _add_stage(server, name)
        with StopSignals() as signals:
            on_start(server.start())
            try:
                done = run_stage(run, settings, progress, signals.event)
            finally:
                server.drain()
            return 0 if done else signals.exit_code or 1


def serve_process(
    name: str,
    run: Run,
    add: Callable[[Server, ServiceSettings], Models],
    settings: ServiceSettings,
    on_start: Callable[[str], None] = lambda _: None,
    server: Server | None = None,
) -> int:
    """Serves until SIGTERM or SIGINT, then drains; with `train_first` runs the stage before.

    Args:
        name: The stage's name.
        run: The stage.
        add: Adds the service to the server and returns what follows its models, not yet started.
        settings: Where to listen and what to work on.
        on_start: Told the address bound.
        server: One with options of its own, for that address; None: one with the usual ones.

    Returns:
        The process's exit code: 0; 1 where the stage failed; 143 or 130 where it was stopped.

    Raises:
        ServerError: The address cannot be bound.
    """
    if server is None:
        server = _server(settings)
    progress = _add_stage(server, name) if settings.train_first else None
    models = add(server, settings)
    with StopSignals() as signals:
        on_start(server.start())
        models.start()
        try:
            if progress is not None and not run_stage(run, settings, progress, signals.event):
                return signals.exit_code or 1
            signals.event.wait()
            return 0
        finally:
            server.drain()
            models.stop()


def run_stage(
    run: Run, settings: ServiceSettings, progress: Progress, stop: threading.Event
) -> bool:
    """Runs the stage of a service process and reports how it ends.

    Returns:
        Whether its artifact is there; False where it failed (logged, and in the progress) or was
        stopped.
    """
    store, targets = settings.store, settings.prior_targets
    name = progress.snapshot().stage
    try:
        run(StageContext(settings.config, store, progress, settings.variant, stop, targets))
    except Stopped as stopped:
        _LOGGER.info("%s", stopped)
        return False
    except Exception as error:
        explained = explanation(error)
        if explained is not None:
            _LOGGER.error("%s: %s", name, explained)
            progress.failed(explained)
        else:
            _LOGGER.exception("%s failed", name)
            progress.failed(f"{type(error).__name__}: {error}")
        return False
    return True


def _server(settings: ServiceSettings) -> Server:
    return Server(
        settings.listen,
        metrics_port=settings.metrics_port,
        metrics_host=settings.metrics_host,
        metrics_targets=settings.metrics_targets,
    )


def _add_stage(server: Server, name: str) -> Progress:
    progress = Progress(name)
    add = stage_pb2_grpc.add_StageServiceServicer_to_server
    server.add(add, StageServicer(progress), stage.FULL_NAME)
    return progress
