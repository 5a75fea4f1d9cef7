"""A prior of a few lines: correct as it is, or with one chosen fault; also runs as a process."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from typing import Any

import grpc
import numpy as np

from common.rpc.codec import decode, encode
from common.rpc.errors import (
    FailedPreconditionError,
    InvalidFieldError,
    RpcError,
    TooLargeError,
    VersionMismatchError,
)
from common.rpc.prior import FULL_NAME
from common.rpc.server import Server
from common.rpc.signals import StopSignals
from ldcq.v1 import prior_pb2, prior_pb2_grpc

STATE_DIM, LATENT_DIM, GOAL_DIM, TRAINING_STEPS = 3, 2, 2, 10
MAX_ROWS = 1_000_000
VERSION = "0123456789abcdef"


class NumpyPrior(prior_pb2_grpc.PriorServiceServicer):
    """Latents are noise of the request's seed plus the state's first coordinate."""

    def __init__(
        self,
        fault: str = "",
        goals: bool = False,
        delay: float = 0.0,
        version: str = VERSION,
        raises: BaseException | None = None,
        solvers: Sequence[str] = ("ddpm",),
    ) -> None:
        self.solvers = solvers
        self.fault, self.goals, self.delay, self.version = fault, goals, delay, version
        self.raises = raises
        self.calls = 0
        self._running = 0
        self._lock = threading.Lock()

    def Describe(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceDescribeRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> prior_pb2.PriorServiceDescribeResponse:
        """What the prior is."""
        return prior_pb2.PriorServiceDescribeResponse(
            implementation="numpy",
            model_version="" if self.fault == "describe" else self.version,
            vae_version="fedcba9876543210",
            state_dim=STATE_DIM,
            latent_dim=LATENT_DIM,
            goal_dim=GOAL_DIM if self.goals else 0,
            training_steps=TRAINING_STEPS,
            solvers=self.solvers,
            defaults=prior_pb2.SamplerOptions(solver="ddpm", guidance=1.5),
            max_rows=MAX_ROWS,
        )

    def Sample(  # noqa: N802
        self,
        request: prior_pb2.PriorServiceSampleRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> prior_pb2.PriorServiceSampleResponse:
        """Latents, unless the request is refused."""
        with self._lock:
            self.calls += 1
            self._running += 1
        try:
            if self.raises is not None:
                raise self.raises
            if self.fault == "batch":
                time.sleep(0.1)
            time.sleep(self.delay)
            return self._reply(request)
        finally:
            with self._lock:
                self._running -= 1

    def _reply(
        self, request: prior_pb2.PriorServiceSampleRequest
    ) -> prior_pb2.PriorServiceSampleResponse:
        states = self._states(request)
        self._check(request)
        seed = 0 if self.fault == "other seed" else request.seed
        generator = np.random.default_rng(None if self.fault == "same seed" else seed)
        latent_dim = LATENT_DIM + (self.fault == "shape")
        noise = generator.standard_normal((len(states), request.candidates, latent_dim))
        shift = states[:, None, :1]
        if self.goals:
            goals = self._goals(request)
            shift = shift + (self.fault != "other goal") * goals[:, None, :1]
        latents = (noise + shift).astype(np.float32)
        if self.fault == "batch":
            latents += 1e-3 * (self._running - 1)
        return prior_pb2.PriorServiceSampleResponse(
            latents=encode(latents.astype(np.float64) if self.fault == "double" else latents),
            model_version="another" if self.fault == "reply version" else self.version,
        )

    def _states(self, request: prior_pb2.PriorServiceSampleRequest) -> np.ndarray[Any, Any]:
        tolerated = {"dimension", "rank", "dtype", "nan", "data"}
        if self.fault not in tolerated:
            return decode(request.states, field="states", shape=(None, STATE_DIM))
        try:
            return decode(request.states, field="states", shape=(None, STATE_DIM))
        except InvalidFieldError as error:
            if _REFUSALS[self.fault] not in str(error):
                raise
            return np.zeros((1, STATE_DIM), np.float32)

    def _goals(self, request: prior_pb2.PriorServiceSampleRequest) -> np.ndarray[Any, Any]:
        try:
            shape = (request.states.shape[0], GOAL_DIM)
            return decode(request.goals, field="goals", shape=shape)
        except InvalidFieldError as error:
            if self.fault not in _GOAL_REFUSALS or _GOAL_REFUSALS[self.fault] not in str(error):
                raise
            return np.zeros((1, GOAL_DIM), np.float32)

    def _check(self, request: prior_pb2.PriorServiceSampleRequest) -> None:
        options = request.options
        refusals: dict[str, tuple[bool, RpcError]] = {
            "candidates": (
                request.candidates < 1,
                InvalidFieldError("candidates", request.candidates, "at least 1"),
            ),
            "rows": (
                request.candidates * 3 > MAX_ROWS,
                TooLargeError("candidates", request.candidates, MAX_ROWS, "latents"),
            ),
            "solver": (
                options.HasField("solver") and options.solver != "ddpm",
                InvalidFieldError("options.solver", options.solver, "ddpm"),
            ),
            "nulled": (
                options.nulled not in ("", "state", *(["goal", "both"] if self.goals else [])),
                InvalidFieldError("options.nulled", options.nulled, "state"),
            ),
            "steps": (
                options.HasField("steps") and not 1 <= options.steps <= TRAINING_STEPS,
                InvalidFieldError("options.steps", options.steps, "1 to 10"),
            ),
            "version": (
                request.HasField("expected_model_version")
                and request.expected_model_version != self.version,
                VersionMismatchError(self.version, request.expected_model_version),
            ),
            "goals": (
                request.HasField("goals") != self.goals,
                FailedPreconditionError("goals: given to a prior without goals, or the reverse"),
            ),
        }
        for name, (refused, error) in refusals.items():
            if refused and name != self.fault:
                raise error if self.fault != "wrong code" else RuntimeError(name)


_REFUSALS = {
    "dimension": "shape (3, 4)",
    "rank": "shape (3,)",
    "dtype": "element type int32",
    "nan": "nan at",
    "data": "bytes of data",
}
"""What the decoder says where a fault lets a bad tensor through."""
_GOAL_REFUSALS = {"goal dimension": "shape (3, 3)", "infinite goal": "inf at"}


def serve(prior: NumpyPrior, address: str = "127.0.0.1:0", **options: Any) -> tuple[Server, str]:
    """A started server of `prior`, and its address."""
    server = Server(address, **{"linger": 0.0, **options})
    server.add(prior_pb2_grpc.add_PriorServiceServicer_to_server, prior, FULL_NAME)
    server.set_serving(FULL_NAME, True)
    return server, server.start()


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--version", default=VERSION)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--listen", default="127.0.0.1:0")
    arguments = parser.parse_args()
    prior = NumpyPrior(version=arguments.version, delay=arguments.delay)
    server, address = serve(prior, arguments.listen, linger=0.2)
    print(address, flush=True)
    with StopSignals() as signals:
        signals.event.wait()
    server.drain()
    print("drained", flush=True)


if __name__ == "__main__":
    _main()
