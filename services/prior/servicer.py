"""`PriorService`: gRPC on one side, the current model and the compute queue on the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator, Sequence

import grpc
import numpy as np
import torch
from numpy.typing import NDArray

from common.rpc import tracing
from common.rpc.codec import encode
from common.rpc.following import current_model
from common.rpc.prior import sampler_options
from common.store import Follower
from ldcq.prior import Draw
from ldcq.v1 import prior_pb2, prior_pb2_grpc
from services.prior import metrics
from services.prior.model import ServedPrior
from services.prior.queueing import CancelledCallError, ComputeQueue, Job
from services.prior.requests import MAX_ROWS, SampleRequest, check_model, parse_request


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
        model = self._model()
        return prior_pb2.PriorServiceDescribeResponse(
            implementation=model.implementation,
            model_version=model.version,
            vae_version=model.vae_version,
            state_dim=model.state_dim,
            latent_dim=model.latent_dim,
            goal_dim=model.goal_dim,
            training_steps=model.description.training_steps,
            solvers=model.description.solvers,
            defaults=sampler_options(model.description.defaults),
            max_rows=MAX_ROWS,
        )

    def Sample(  # noqa: N802
        self, request: prior_pb2.PriorServiceSampleRequest, context: grpc.ServicerContext
    ) -> prior_pb2.PriorServiceSampleResponse:
        """Draws latents (Algorithm 1, lines 5-9).

        Raises:
            RpcError: See `PriorService.Sample` for every code and its reason.
        """
        start = time.monotonic()
        parsed = parse_request(request, self._model())
        remaining = context.time_remaining()
        call = _Call(parsed, self._model)
        job = Job(
            rows=parsed.rows,
            priority=parsed.priority,
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
            metrics.SAMPLE_SECONDS.labels(part, parsed.priority).observe(value)
        metrics.ROWS.inc(parsed.rows)
        metrics.CALL_ROWS.labels(parsed.priority).observe(parsed.rows)
        shape = (len(parsed.states), parsed.candidates, -1)
        return prior_pb2.PriorServiceSampleResponse(
            latents=encode(call.latents.reshape(shape)),
            model_version=call.version,
            queue_seconds=job.queue_seconds,
            compute_seconds=job.compute_seconds,
        )

    def _model(self) -> ServedPrior:
        return current_model(self._follower, "prior")[1]


class _Call:
    """One call in the compute thread; it ends with the model it began with.

    Attributes:
        version: The model's.
        latents: (N n, Z).
        key: The options it chose.
    """

    def __init__(self, request: SampleRequest, model: Callable[[], ServedPrior]) -> None:
        self._request, self._model = request, model
        self.key: Hashable | None = request.options.model_dump_json(exclude_none=True)
        self.version: str
        self.latents: NDArray[np.float32]

    def slices(self) -> Iterator[None]:
        """Yields after every block of rows, so that a more urgent call waits for one block only."""
        model = self._begin(self._model())
        draw, options = self._draw(model), self._request.options
        steps, done = model.sampler.steps(options), 0
        blocks = model.sampler.blocks(draw.states, draw.candidates, options, draw.seed, draw.goals)
        while done < draw.rows:
            start = time.monotonic()
            rows = next(blocks).cpu().numpy()
            self.latents[done : done + len(rows)] = rows
            done += len(rows)
            metrics.STEP_SECONDS.observe((time.monotonic() - start) / steps)
            metrics.BATCH_ROWS.observe(len(rows))
            if done < draw.rows:
                yield

    def join(self, works: Sequence[_Call]) -> Sequence[Exception | None]:
        """Several calls as one block, or one after the other if the model cannot join them.

        A call that does not fit the model, which may be newer than the call, fails alone.
        """
        model = self._model()
        if model.joining is None:
            return [_outcome(call._compute) for call in works]
        errors = [_outcome(call._begin, model) for call in works]
        calls = [call for call, error in zip(works, errors, strict=True) if error is None]
        if calls:
            start, options = time.monotonic(), self._request.options
            rows = model.joining.join([call._draw(model) for call in calls], options).cpu().numpy()
            steps = model.sampler.steps(options)
            metrics.STEP_SECONDS.observe((time.monotonic() - start) / steps)
            metrics.BATCH_ROWS.observe(len(rows))
            ends = np.cumsum([call._request.rows for call in calls])
            for call, latents in zip(calls, np.split(rows, ends[:-1]), strict=True):
                call.latents[:] = latents
        return errors

    def _compute(self) -> None:
        for _ in self.slices():
            pass

    def _begin(self, model: ServedPrior) -> ServedPrior:
        check_model(self._request, model)
        self.version = model.version
        self.latents = np.empty((self._request.rows, model.latent_dim), np.float32)
        return model

    def _draw(self, model: ServedPrior) -> Draw:
        # Copied: a decoded array is a read-only view of the message.
        request = self._request
        states = torch.tensor(request.states, device=model.device)
        goals = None if request.goals is None else torch.tensor(request.goals, device=model.device)
        return Draw(states, request.candidates, request.seed, goals)


def _outcome(function: Callable[..., object], *arguments: object) -> Exception | None:
    """What a function fails with."""
    try:
        function(*arguments)
    except Exception as error:
        # Goes to the caller's own thread, whose interceptor knows what to make of it.
        return error
    return None
