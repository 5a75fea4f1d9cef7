"""A prior without a network: latents of the windows of the data whose states are nearest.

It shares nothing with ldcq but the contract (proto/ldcq/v1); it needs gRPC, NumPy and Zarr.
p(z | s) is a mixture of q(z | tau) over the windows with the states nearest to s, equally likely.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import signal
import sys
import threading
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import zarr
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ldcq.v1 import prior_pb2, prior_pb2_grpc, tensor_pb2

NAME = "ldcq.v1.PriorService"
LOG = logging.getLogger("neighbours")
MAX_ROWS = 1 << 20
STATES_AT_ONCE = 64
MESSAGE_BYTES = 64 << 20
DRAIN_SECONDS = 30


class RefusedError(Exception):
    """A request that is not answered, and with which code."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def invalid(field: str, given: object, expected: object) -> RefusedError:
    """INVALID_ARGUMENT that names the field."""
    return RefusedError(
        grpc.StatusCode.INVALID_ARGUMENT, f"{field}: got {given}; expected {expected}"
    )


class Neighbours:
    """The model: states and latents of the data's windows.

    Args:
        folder: A table of latents, `<store>/latents/<version>`.
        rows: The most windows that are kept, evenly spread over the table.
        neighbours: Windows that a sample is drawn from.
    """

    def __init__(self, folder: Path, rows: int, neighbours: int) -> None:
        table = zarr.open_group(folder, mode="r")
        kept = np.flatnonzero(~np.asarray(table["validation"][:]))
        kept = kept[:: max(1, -(-len(kept) // rows))]
        self.state, self.mean, self.std = (
            np.asarray(table[column][:])[kept] for column in ("state", "latent_mean", "latent_std")
        )
        self.neighbours = min(neighbours, len(kept))
        deviation = self.state.std(axis=0)
        self.scale = 1 / np.where(deviation > 1e-6, deviation, 1)  # 1: an entry that never changes
        self.scaled = self.state * self.scale
        self.squares = (self.scaled**2).sum(axis=1)
        self.vae = json.loads((folder / "meta.json").read_text())["parents"]["vae"]
        # Everything that decides a reply.
        content = hashlib.sha256(f"neighbours 1 {self.neighbours}".encode())
        for array in (self.state, self.mean, self.std):
            content.update(np.ascontiguousarray(array).data)
        self.version = content.hexdigest()[:16]

    def sample(self, states: np.ndarray, candidates: int, seed: int) -> np.ndarray:
        """Latents (N, n, Z) for states (N, S)."""
        random = np.random.default_rng(seed)
        choice = random.integers(self.neighbours, size=(len(states), candidates))
        noise = random.standard_normal((len(states), candidates, self.mean.shape[1]), np.float32)
        latents = np.empty_like(noise)
        for start in range(0, len(states), STATES_AT_ONCE):
            part = slice(start, start + STATES_AT_ONCE)
            scaled = states[part] * self.scale
            distance = self.squares - 2 * scaled @ self.scaled.T
            near = np.argpartition(distance, self.neighbours - 1, axis=1)[:, : self.neighbours]
            windows = np.take_along_axis(near, choice[part], axis=1)
            latents[part] = self.mean[windows] + self.std[windows] * noise[part]
        return latents


class PriorServicer(prior_pb2_grpc.PriorServiceServicer):
    """Describe and Sample, as the comments of prior.proto promise."""

    def __init__(self) -> None:
        self.model: Neighbours | None = None
        self._computing = threading.Lock()  # one call at a time: it uses all cores

    def Describe(self, request, context):  # noqa: N802, ARG002
        """What this prior is; it has no denoising steps, so no solvers and no defaults."""
        try:
            model = self._ready()
        except RefusedError as refused:
            context.abort(refused.code, str(refused))
        return prior_pb2.PriorServiceDescribeResponse(
            implementation="neighbours",
            model_version=model.version,
            vae_version=model.vae,
            state_dim=model.state.shape[1],
            latent_dim=model.mean.shape[1],
            max_rows=MAX_ROWS,
        )

    def Sample(self, request, context):  # noqa: N802
        """Latents, a function of the request and the model only."""
        try:
            model = self._ready()
            states = check(request, model)
        except RefusedError as refused:
            context.abort(refused.code, str(refused))
        with self._computing:
            if not context.is_active():
                context.abort(grpc.StatusCode.CANCELLED, "nobody waits for this call any more")
            latents = model.sample(states, request.candidates, request.seed)
        return prior_pb2.PriorServiceSampleResponse(
            latents=tensor_pb2.Tensor(
                dtype=tensor_pb2.DTYPE_FLOAT32,
                shape=latents.shape,
                data=latents.astype("<f4").tobytes(),
            ),
            model_version=model.version,
        )

    def _ready(self) -> Neighbours:
        if self.model is None:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "no latents have been published yet")
        return self.model


def check(request: prior_pb2.PriorServiceSampleRequest, model: Neighbours) -> np.ndarray:
    """The states of a request that this prior answers, (N, S) float32; else a refusal."""
    precondition = grpc.StatusCode.FAILED_PRECONDITION
    wanted = request.expected_model_version
    if wanted and wanted != model.version:
        raise RefusedError(
            precondition, f"expected_model_version: got {wanted}; served is {model.version}"
        )
    if request.HasField("goals"):
        raise RefusedError(precondition, "goals: got some; expected none, this prior has no goals")
    for option, value in request.options.ListFields():
        raise invalid(f"options.{option.name}", value, "nothing: this prior has no denoising steps")
    tensor, shape = request.states, tuple(request.states.shape)
    if tensor.dtype != tensor_pb2.DTYPE_FLOAT32:
        raise invalid("states", f"element type number {tensor.dtype}", "float32")
    width = model.state.shape[1]
    if len(shape) != 2 or shape[0] < 1 or shape[1] != width:
        raise invalid("states", f"shape {shape}", f"(N, {width})")
    if len(tensor.data) != 4 * shape[0] * width:
        raise invalid("states", f"{len(tensor.data)} bytes of data", 4 * shape[0] * width)
    states = np.frombuffer(tensor.data, "<f4").reshape(shape)
    if not np.isfinite(states).all():
        raise invalid("states", "nan or infinity", "finite numbers")
    if request.candidates < 1:
        raise invalid("candidates", request.candidates, "at least 1")
    if request.candidates * shape[0] > MAX_ROWS:
        raise RefusedError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"candidates: got {shape[0]} states x {request.candidates} candidates; "
            f"expected at most {MAX_ROWS} latents in one call",
        )
    return states


def follow(store: Path, servicer: PriorServicer, serving: health.HealthServicer, options) -> None:
    """Serves the store's current latents, now and whenever others are published."""
    current, loaded = store / "latents" / "CURRENT", ""
    while not options.stop.wait(1.0 if loaded else 0.2):
        version = current.read_text().strip() if current.is_file() else ""
        if version in ("", loaded):
            continue
        model = Neighbours(store / "latents" / version, options.rows, options.neighbours)
        servicer.model, loaded = model, version
        for name in ("", NAME):
            serving.set(name, health_pb2.HealthCheckResponse.SERVING)
        LOG.info("serving %s: %d windows of VAE %s", model.version, len(model.state), model.vae)


def healthy(address: str) -> bool:
    """Whether the server there has a model, for a container's health check."""
    with grpc.insecure_channel(address) as channel:
        try:
            request = health_pb2.HealthCheckRequest()
            reply = health_pb2_grpc.HealthStub(channel).Check(request, timeout=3)
        except grpc.RpcError:
            return False
    return reply.status == health_pb2.HealthCheckResponse.SERVING


def main() -> None:
    """Serves until SIGTERM, then lets the calls under way end."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", type=Path, default=Path("/store"), help="the shared store")
    parser.add_argument("--listen", default="127.0.0.1:50051", help="HOST:PORT or unix:/path")
    parser.add_argument("--rows", type=int, default=20_000, help="windows kept")
    parser.add_argument("--neighbours", type=int, default=64, help="windows drawn from")
    parser.add_argument("--check", metavar="HOST:PORT", help="only ask whether one serves there")
    options = parser.parse_args()
    if options.check:
        sys.exit(not healthy(options.check))
    options.stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: options.stop.set())
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )

    server = grpc.server(
        futures.ThreadPoolExecutor(64),
        options=[
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            # So that clients find replicas that were added, and may ask whether this one lives.
            ("grpc.max_connection_age_ms", 30_000),
            ("grpc.max_connection_age_grace_ms", 3_600_000),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    # A thread for every client that watches: the servicer's other way can stop the server for good
    # when one client leaves while another comes (grpcio-health-checking 1.85).
    serving = health.HealthServicer(
        experimental_non_blocking=False,
        experimental_thread_pool=futures.ThreadPoolExecutor(256),
    )
    servicer = PriorServicer()
    for name in ("", NAME):
        serving.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
    prior_pb2_grpc.add_PriorServiceServicer_to_server(servicer, server)
    health_pb2_grpc.add_HealthServicer_to_server(serving, server)
    port = server.add_insecure_port(options.listen)
    server.start()
    host = options.listen.rpartition(":")[0]
    print(f"listening on {options.listen if host == 'unix' else f'{host}:{port}'}", flush=True)
    follow(options.store, servicer, serving, options)
    serving.enter_graceful_shutdown()
    server.stop(DRAIN_SECONDS).wait()


if __name__ == "__main__":
    main()
