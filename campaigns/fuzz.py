"""`make fuzz`: requests as nobody should send them, to every method of every service, and raw bytes
at every port: documented status codes alone, no crash, nothing of the inside in a message.

    python -m campaigns.fuzz --cases 100000 --seed 1
"""

from __future__ import annotations

import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import grpc
import hypothesis
import numpy as np
import typer
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure

from campaigns.messages import Vocabulary, raw, requests
from campaigns.result import CampaignResult, JsonOption
from campaigns.serving import ROOT, ServerProcess, StoreOption, small_store
from cli.terminal import ProgressBars
from common.rpc.codec import encode
from common.rpc.conformance import CheckResult
from common.rpc.options import MAX_MESSAGE_BYTES
from common.rpc.stage import Progress
from ldcq.latent_prior import MAX_ROWS
from ldcq.v1 import (
    actor_pb2,
    actor_pb2_grpc,
    critic_pb2,
    critic_pb2_grpc,
    prior_pb2,
    prior_pb2_grpc,
    stage_pb2,
    tensor_pb2,
    vae_pb2,
    vae_pb2_grpc,
)

Code = grpc.StatusCode
ROUND = 500
"""Cases between two good calls of every server."""
TIMEOUT, STREAM_TIMEOUT, RAW_TIMEOUT = 20.0, 0.3, 0.02
DOCUMENTED = {
    Code.OK,
    Code.INVALID_ARGUMENT,
    Code.FAILED_PRECONDITION,
    Code.RESOURCE_EXHAUSTED,
    Code.DEADLINE_EXCEEDED,
}
"""Of a server with models whose caller does not leave: proto/ldcq/v1."""
NO_MESSAGE = {Code.INTERNAL, Code.INVALID_ARGUMENT}
"""Of bytes that are no message of the method's, which gRPC's own libraries answer."""
_INSIDE = ("Traceback", 'File "', "site-packages", sys.prefix, sys.base_prefix, str(ROOT))


class FoundError(AssertionError):
    """What a server must not do, and did."""


@dataclass(frozen=True)
class Method:
    """One method of one server."""

    server: ServerProcess
    path: str
    request: type[Message]
    answers: str  # "unary", or "stream", or "streams" where requests are a stream too

    @property
    def computes(self) -> bool:
        """Whether its requests have arrays."""
        kinds = [field.message_type for field in self.request.DESCRIPTOR.fields]
        return tensor_pb2.Tensor.DESCRIPTOR in kinds

    def __repr__(self) -> str:
        return f"{self.server.name}{self.path}"


class Trial:
    """Servers and what has been tried on them.

    Attributes:
        outcomes: Cases by method, or port, and how they ended.

    Args:
        servers: By name; all that are needed beside each other.
        folder: That no message may name.
    """

    def __init__(self, servers: dict[str, ServerProcess], folder: Path) -> None:
        self.servers, self.outcomes = servers, Counter[str]()
        self._inside = (*_INSIDE, str(folder))
        options = [("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        self._channels = {
            name: grpc.insecure_channel(server.address, options) for name, server in servers.items()
        }
        self.known = self._vocabulary()
        self.methods = list(self._methods())
        self.ports = {
            f"{name} {what}": address
            for name, server in servers.items()
            for what, address in (("rpc", server.address), ("metrics", server.metrics_address))
        }

    def close(self) -> None:
        """Closes the channels."""
        for channel in self._channels.values():
            channel.close()

    def call(self, method: Method, content: bytes) -> None:
        """Sends one request.

        Raises:
            FoundError: The answer is not as documented.
        """
        code, details = self._answer(method, content)
        if code is Code.UNAVAILABLE and "GOAWAY" in details:  # the connection was old, not the call
            code, details = self._answer(method, content)
        self.outcomes[f"{method.path.removeprefix('/')} {code.name}"] += 1
        try:
            method.request.FromString(content)
            expected = DOCUMENTED | ({Code.NOT_FOUND} if "Health" in method.path else set())
        except DecodeError:
            expected = NO_MESSAGE | {Code.DEADLINE_EXCEEDED}
        if code not in expected:
            raise FoundError(f"{method}: {code.name}: {details}")
        if inside := [word for word in self._inside if word in details]:
            raise FoundError(f"{method}: {code.name} tells {inside}: {details}")

    def send(self, port: str, content: bytes) -> None:
        """Writes bytes into a connection of its own and looks at what comes back, if anything.

        Raises:
            FoundError: Nobody listens there, or the answer tells too much.
        """
        host, _, number = self.ports[port].rpartition(":")
        try:
            with socket.create_connection((host, int(number)), timeout=5.0) as connection:
                answer = _exchange(connection, content)
        except ConnectionRefusedError as error:
            raise FoundError(f"{port}: nobody listens") from error
        self.outcomes[f"{port} {'answered' if answer else 'silent'}"] += 1
        text = answer.decode(errors="replace")
        if inside := [word for word in self._inside if word in text]:
            raise FoundError(f"{port}: tells {inside}: {text[:2000]}")

    def check(self) -> None:
        """Calls that must succeed, one of every server.

        Raises:
            FoundError: One does not.
        """
        states = encode(np.full((2, 4), 0.1, np.float32))
        latents = encode(np.zeros((2, 3, 4), np.float32))
        first = encode(np.zeros((2, 4), np.float32))
        sample = prior_pb2.PriorServiceSampleRequest(states=states, candidates=3, seed=1)
        channels = self._channels
        calls: dict[str, tuple[Any, Message]] = {
            "vae": (
                vae_pb2_grpc.VaeServiceStub(channels["vae"]).Decode,
                vae_pb2.VaeServiceDecodeRequest(states=states, latents=first),
            ),
            "prior": (prior_pb2_grpc.PriorServiceStub(channels["prior"]).Sample, sample),
            "prior@bcq_h": (
                prior_pb2_grpc.PriorServiceStub(channels["prior@bcq_h"]).Sample,
                sample,
            ),
            "qlearner": (
                critic_pb2_grpc.CriticServiceStub(channels["qlearner"]).Score,
                critic_pb2.CriticServiceScoreRequest(states=states, latents=latents),
            ),
            "actor": (
                actor_pb2_grpc.ActorServiceStub(channels["actor"]).Act,
                actor_pb2.ActorServiceActRequest(states=states, method="ldcq"),
            ),
        }
        for name, (method, request) in calls.items():
            try:
                reply = method(request, timeout=TIMEOUT)
            except grpc.RpcError as error:
                raise FoundError(f"{name}: a good call failed: {error.code().name}") from error
            if name == "actor" and len(self.known.tokens) < 20:
                self.known.tokens.append(reply.plan_token)

    def said(self) -> list[str]:
        """Lines of the logs that must not be there."""
        return [
            f"{name}: {line}"
            for name, server in self.servers.items()
            for line in server.log_of_calls().splitlines()
            if " ERROR " in line or any(word in line for word in self._inside)
        ]

    def _answer(self, method: Method, content: bytes) -> tuple[grpc.StatusCode, str]:
        channel: Any = self._channels[method.server.name]
        try:
            if method.answers == "unary":
                channel.unary_unary(method.path)(content, timeout=TIMEOUT)
                return Code.OK, ""
            if method.answers == "stream":
                call = channel.unary_stream(method.path)(content, timeout=STREAM_TIMEOUT)
            else:
                call = channel.stream_stream(method.path)(iter([content]), timeout=STREAM_TIMEOUT)
            try:
                next(iter(call), None)
                return Code.OK, ""
            finally:
                call.cancel()
        except grpc.RpcError as error:
            return error.code(), error.details() or ""

    def _methods(self) -> Iterator[Method]:
        own: dict[str, Any] = {
            "vae": vae_pb2,
            "prior": prior_pb2,
            "prior@bcq_h": prior_pb2,
            "qlearner": critic_pb2,
            "actor": actor_pb2,
        }
        for name, server in self.servers.items():
            for module in (own[name], stage_pb2, health_pb2, reflection_pb2):
                for service in module.DESCRIPTOR.services_by_name.values():
                    for method in service.methods:
                        kinds = ("unary", "stream", "streams")
                        answers = kinds[method.server_streaming + method.client_streaming]
                        request = method.input_type._concrete_class
                        path = f"/{service.full_name}/{method.name}"
                        yield Method(server, path, request, answers)

    def _vocabulary(self) -> Vocabulary:
        describe = vae_pb2_grpc.VaeServiceStub(self._channels["vae"]).Describe
        vae = describe(vae_pb2.VaeServiceDescribeRequest(), timeout=TIMEOUT)
        known = actor_pb2_grpc.ActorServiceStub(self._channels["actor"]).Describe(
            actor_pb2.ActorServiceDescribeRequest(), timeout=TIMEOUT
        )
        size, windows = vae.state_dim, (None, vae.horizon)
        dimensions = {size, vae.latent_dim, vae.action_dim, vae.horizon}
        services = [""] + [
            service.full_name
            for module in (vae_pb2, prior_pb2, critic_pb2, actor_pb2, stage_pb2)
            for service in module.DESCRIPTOR.services_by_name.values()
        ]
        return Vocabulary(
            extents=[*dimensions, 0, 1, 2, 3, -1, MAX_ROWS, MAX_ROWS + 1, 2**31, 2**62],
            shapes={
                "states": (None, size),
                "VaeServiceEncodeRequest.states": (*windows, size),
                "actions": (*windows, vae.action_dim),
                "latents": (None, vae.latent_dim),
                "CriticServiceScoreRequest.latents": (None, 2, vae.latent_dim),
                "restart": (None,),
            },
            words={
                "method": [*known.methods, ""],
                "methods": [*known.methods, "behaviour"],
                "solver": ["ddpm", "ddim", "dpmpp_2m"],
                "nulled": ["state"],
                "service": services,
            },
            numbers={
                "candidates": [1, 2, 3, 50],
                "steps": [1, 2, 5, 10],
                "extra_steps": [0, 1, 2],
                "temperature": [0.0, 0.5, 1.0],
                "guidance": [1.0, 2.0],
                "episodes": [1, 2, 0],
                "priority": [0, 1, 2],
            },
        )


def _exchange(connection: socket.socket, content: bytes) -> bytes:
    connection.settimeout(RAW_TIMEOUT)
    try:
        connection.sendall(content)
        return connection.recv(4096)
    except OSError:  # it waits for more, or has hung up
        return b""


def cases(trial: Trial) -> st.SearchStrategy[Callable[[], None]]:
    """One thing to do to a server; four of five are requests."""

    def request(method: Method) -> st.SearchStrategy[Any]:
        return st.tuples(st.just(method), requests(method.request, trial.known))

    # What computes can go wrong in more ways than what only tells.
    often = [method for method in trial.methods if method.computes]
    called = st.sampled_from([*trial.methods, *often * 6]).flatmap(request)
    return st.one_of(
        called, called, called, called, st.tuples(st.sampled_from(sorted(trial.ports)), raw)
    )


def explore(trial: Trial, count: int, seed: int) -> str:
    """Tries `count` cases; the smallest one that a server did not bear, as text, or nothing."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(cases(trial))
    def bears(case: tuple[Method | str, bytes]) -> None:
        where, content = case
        if isinstance(where, Method):
            trial.call(where, content)
        else:
            trial.send(where, content)

    try:
        bears()
        trial.check()
    except FoundError as error:
        return "\n".join([str(error), *getattr(error, "__notes__", ())])
    except FlakyFailure as error:  # once, and not when it was tried again
        return "; ".join(map(str, error.exceptions))
    return ""


@contextmanager
def started(folder: Path, store: Path | None) -> Iterator[Trial]:
    """Every service over a small store, each with its stage beside it."""
    root = small_store(folder, store)
    with ExitStack() as stack:

        def start(service: str, *options: str, name: str = "") -> ServerProcess:
            given = ("--train", *options)
            return stack.enter_context(ServerProcess(service, root, folder, given, name))

        servers = [start("vae"), start("prior")]
        servers += [start("prior", "--variant", "bcq_h", name="prior@bcq_h")]
        targets = [f"--prior={servers[1].address}", f"--prior=bcq_h={servers[2].address}"]
        servers += [start("qlearner", *targets), start("actor", *targets)]
        trial = Trial({server.name: server for server in servers}, folder)
        stack.callback(trial.close)
        yield trial


def run(
    count: int, seed: int, folder: Path, store: Path | None, bars: ProgressBars
) -> CampaignResult:
    """Serves a store and tries what it bears.

    Args:
        count: Cases.
        seed: Of the cases.
        folder: For the store and the logs.
        store: To copy; None: one is trained.
        bars: Show how far it is.

    Raises:
        CampaignError: A server did not start.
    """
    progress, found, done = Progress("fuzz"), "", 0
    progress.waiting("training a small store" if store is None else "copying the store")
    bars.update("fuzz", progress.snapshot())
    with started(folder, store) as trial:
        trial.check()
        while done < count and not found:
            some = min(ROUND, count - done)
            found = explore(trial, some, seed + done)
            done += some
            progress.running(done, count, {}, "trying")
            bars.update("fuzz", progress.snapshot())
        dead = [name for name, server in trial.servers.items() if not server.alive]
        said = trial.said()
        codes = {name: server.stop() for name, server in trial.servers.items()}
    progress.published("")
    bars.update("fuzz", progress.snapshot())
    shown = ", ".join(f"{name} {code}" for name, code in codes.items())
    checks = [
        CheckResult("answers are as documented", not found, found or f"{done} cases"),
        CheckResult("no server crashes", not dead, ", ".join(dead) or f"{len(codes)} servers"),
        CheckResult("nothing goes wrong in a log", not said, "; ".join(said[:5]) or "no error"),
        CheckResult("every server ends in order", not any(codes.values()), shown),
    ]
    return CampaignResult(
        "fuzz", {"cases": count, "seed": seed}, {"outcomes": _sorted(trial.outcomes)}, checks
    )


def _sorted(outcomes: Counter[str]) -> dict[str, int]:
    return dict(sorted(outcomes.items()))


def main(
    cases: Annotated[int, typer.Option(min=1, help="Requests and raw connections.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Of the cases.")] = 0,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send every method of every service what nobody should, and every port raw bytes."""
    with tempfile.TemporaryDirectory(prefix="ldcq-fuzz-") as folder, ProgressBars() as bars:
        result = run(cases, seed, Path(folder), store, bars)
    raise typer.Exit(result.show(as_json))


if __name__ == "__main__":
    typer.run(main)
