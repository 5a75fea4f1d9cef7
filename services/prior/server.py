"""The prior's process: serves the model of the store, after training it where that is asked for."""

from __future__ import annotations

from collections.abc import Callable

import torch

from common.rpc.prior import FULL_NAME
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.store import Artifact, Follower, owning_variant
from common.training import resolve_device
from common.training.process import serve_process
from ldcq.latent_prior import MAX_ROWS
from ldcq.randomness import block_rows
from ldcq.v1 import prior_pb2_grpc
from services.prior import metrics
from services.prior.model import ServedPrior, load_prior
from services.prior.queueing import ComputeQueue
from services.prior.servicer import PriorServicer
from services.prior.train import STAGE, run

QUEUE_ROWS = 4 * MAX_ROWS
"""Latents accepted and not yet answered, above which calls are refused."""

DRAIN_SECONDS = 55.0
"""What calls under way have to end in a server that is asked to stop, within the minute a container
has; cut off, they would begin anew on another replica."""

MAX_CALLS = 128
"""Calls in the server at once: an actor's must not wait for a thread behind many learners'."""


def serve(settings: ServiceSettings, on_start: Callable[[str], None] = lambda _: None) -> int:
    """Serves a variant's prior until SIGTERM or SIGINT; with `train_first` trains it before.

    The process answers from the start: UNAVAILABLE, and health NOT_SERVING, until a model has been
    published, loaded and warmed up; from then on it follows the store. See `serve_process`.
    """
    server = Server(
        settings.listen,
        metrics_port=settings.metrics_port,
        metrics_host=settings.metrics_host,
        metrics_targets=settings.metrics_targets,
        max_workers=MAX_CALLS,
        grace=DRAIN_SECONDS,
    )
    return serve_process(STAGE, run, PriorProcess, settings, on_start, server)


class PriorProcess:
    """What `PriorService` consists of beside the gRPC server, which has not started yet: model,
    queue (of at most `queue_rows` not yet answered), compute thread.
    """

    def __init__(
        self,
        server: Server,
        settings: ServiceSettings,
        *,
        queue_rows: int = QUEUE_ROWS,
        poll: float = 1.0,
    ) -> None:
        self._server, self._settings = server, settings
        self._device = resolve_device(settings.config)
        self.queue = ComputeQueue(
            queue_rows, setup=self._use_threads, batch_rows=block_rows(self._device)
        )
        owner = owning_variant(settings.config, settings.variant, "prior")
        self.follower = Follower(
            settings.store,
            "prior",
            owner,
            self._load,
            wanted=settings.served("prior", owner),
            poll=poll,
            on_swap=self._swapped,
        )
        servicer = PriorServicer(self.follower, self.queue)
        server.add(prior_pb2_grpc.add_PriorServiceServicer_to_server, servicer, FULL_NAME)

    def start(self) -> None:
        """Starts to look for a model and to compute."""
        self.queue.start()
        self.follower.start()

    def stop(self) -> None:
        """Ends both threads; calls that are still waiting fail with UNAVAILABLE."""
        self.follower.stop()
        self.queue.close()

    def _load(self, artifact: Artifact) -> ServedPrior:
        self._use_threads()
        return load_prior(artifact, self._device)

    def _swapped(self, version: str, model: ServedPrior) -> None:  # noqa: ARG002
        metrics.SWAPS.inc()
        metrics.MODEL_INFO.clear()
        metrics.MODEL_INFO.labels(version).set(1)
        self._server.set_serving(FULL_NAME, True)

    def _use_threads(self) -> None:
        """In every thread that computes: OpenMP keeps the number of threads per thread."""
        torch.set_num_threads(self._settings.config.threads)
