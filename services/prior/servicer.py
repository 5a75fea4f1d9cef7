"""`PriorService`: gRPC on one side, the current model and the compute queue on the other."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Sequence

import grpc
import numpy as np

from common.rpc import tracing
from common.rpc.codec import encode_result
from common.rpc.following import current_model
from common.rpc.prior import sampler_options
from common.store import Follower
from ldcq.latent_prior import Draw
from ldcq.v1 import prior_pb2, prior_pb2_grpc
from services.prior import metrics
from services.prior.model import ServedPrior
from services.prior.queueing import CancelledCallError, ComputeQueue, Job
from services.prior.requests import parse_request


class PriorServicer(prior_pb2_grpc.PriorServiceServicer):
    """Describe and Sample with the prior that a follower holds.

    Args:
        follower: Holds the current model.
        queue: Computes.
    """

    def __init__(self, follower: Follower[ServedPrior], queue: ComputeQueue) -> None:
        self._follower = follower
        self._queue = queue

    def Describe(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceDescribeRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> prior_pb2.PriorServiceDescribeResponse:
        """What the prior is and what it accepts.

        Raises:
            NotReadyError: None has been published yet.
        """
        description = self._model().description
        fields = {**vars(description), "defaults": sampler_options(description.defaults)}
        return prior_pb2.PriorServiceDescribeResponse(**fields)

    def Sample(  # noqa: N802
        self, request: prior_pb2.PriorServiceSampleRequest, context: grpc.ServicerContext
    ) -> prior_pb2.PriorServiceSampleResponse:
        """Draws latents (Algorithm 1, lines 5-9).

        Raises:
            RpcError: See `PriorService.Sample` for every code and its reason.
        """
        start = time.monotonic()
        model = self._model()
        draw, priority = parse_request(request, model)
        remaining = context.time_remaining()
        call = _Call(draw, model)
        job = Job(
            rows=draw.rows,
            priority=priority,
            deadline=None if remaining is None else start + remaining,
            work=call,
        )
        self._queue.submit(job)
        if not context.add_callback(lambda: self._queue.cancel(job)):
            self._queue.cancel(job)
        try:
            job.wait()
        except CancelledCallError:
            context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")
        seconds = {
            "queue": job.queue_seconds,
            "compute": job.compute_seconds,
            "total": time.monotonic() - start,
        }
        tracing.elapsed(("queue", job.queue_seconds), ("compute", job.compute_seconds))
        for part, value in seconds.items():
            metrics.SAMPLE_SECONDS.labels(part, priority).observe(value)
        metrics.ROWS.inc(draw.rows)
        metrics.CALL_ROWS.labels(priority).observe(draw.rows)
        shape = (len(draw.states), draw.candidates, -1)
        return prior_pb2.PriorServiceSampleResponse(
            latents=encode_result(call.latents.reshape(shape), "latents", "states"),
            model_version=model.description.model_version,
            queue_seconds=job.queue_seconds,
            compute_seconds=job.compute_seconds,
        )

    def _model(self) -> ServedPrior:
        return current_model(self._follower, "prior")[1]


class _Call:
    """One call in the compute thread, answered by the model that it was checked against.

    Attributes:
        latents: (N n, Z).
        key: The model and the resolved options: a call that spells the defaults out joins one that
            leaves them out. None where the model does not join.
    """

    def __init__(self, draw: Draw, model: ServedPrior) -> None:
        self._draw, self._model = draw, model
        version = model.description.model_version
        self.key: Hashable | None = (version, draw.options) if model.joining else None
        self.latents = np.empty((draw.rows, model.description.latent_dim), np.float32)

    def slices(self) -> Iterator[None]:
        """Yields after every block of rows, so that a more urgent call waits for one block only."""
        sampler, draw = self._model.sampler, self._draw
        done, blocks = 0, sampler.blocks(draw)
        while done < draw.rows:
            start = time.monotonic()
            rows = next(blocks).cpu().numpy()
            self.latents[done : done + len(rows)] = rows
            done += len(rows)
            _observe(start, sampler.passes(draw.options), len(rows))
            if done < draw.rows:
                yield

    def join(self, works: Sequence[_Call]) -> None:
        """Several calls of one key as one block, this one being the first."""
        assert self._model.joining is not None
        start, sampler = time.monotonic(), self._model.joining
        rows = sampler.join([call._draw for call in works]).cpu().numpy()
        _observe(start, sampler.passes(self._draw.options), len(rows))
        ends = np.cumsum([call._draw.rows for call in works])
        for call, latents in zip(works, np.split(rows, ends[:-1]), strict=True):
            call.latents[:] = latents


def _observe(start: float, passes: int, rows: int) -> None:
    metrics.STEP_SECONDS.observe((time.monotonic() - start) / passes)
    metrics.BATCH_ROWS.observe(rows)
