"""`PriorService`: gRPC on one side, the current model and the compute queue on the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import islice

import grpc
import numpy as np
import torch
from numpy.typing import NDArray

from common.rpc.codec import encode
from common.rpc.errors import NotReadyError
from common.rpc.prior import sampler_options
from common.store import Follower
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
            goal_dim=0,
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
            compute=call.compute,
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
        for part, value in seconds.items():
            metrics.SAMPLE_SECONDS.labels(part, parsed.priority).observe(value)
        metrics.ROWS.inc(parsed.rows)
        shape = (len(parsed.states), parsed.candidates, -1)
        return prior_pb2.PriorServiceSampleResponse(
            latents=encode(call.latents.reshape(shape)),
            model_version=call.version,
            queue_seconds=job.queue_seconds,
            compute_seconds=job.compute_seconds,
        )

    def _model(self) -> ServedPrior:
        current = self._follower.current()
        if current is None:
            missing = "no prior has been published yet; made by `ldcq train prior`"
            raise NotReadyError(self._follower.problem or missing)
        return current[1]


class _Call:
    """One call in the compute thread; it ends with the model it began with.

    Attributes:
        version: The model's.
        latents: (N n, Z).
    """

    def __init__(self, request: SampleRequest, model: Callable[[], ServedPrior]) -> None:
        self._request, self._model = request, model
        self.version: str
        self.latents: NDArray[np.float32]

    def compute(self) -> Iterator[None]:
        """Yields after every block of rows, so that a more urgent call waits for one block only."""
        request, model = self._request, self._model()
        check_model(request, model)
        self.version = model.version
        self.latents = np.empty((request.rows, model.latent_dim), np.float32)
        # Copied: a decoded array is a read-only view of the message.
        states = torch.tensor(request.states, device=model.device)
        steps = model.sampler.steps(request.options)
        blocks = model.sampler.blocks(states, request.candidates, request.options, request.seed)
        done = 0
        while done < request.rows:
            start = time.monotonic()
            for block in islice(blocks, 1):
                rows = block.cpu().numpy()
                self.latents[done : done + len(rows)] = rows
                done += len(rows)
            metrics.STEP_SECONDS.observe((time.monotonic() - start) / steps)
            if done < request.rows:
                yield
