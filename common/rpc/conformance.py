"""What anyone's prior service must do to be one: each promise of `prior.proto` as a check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray

from common.rpc.channel import connect
from common.rpc.codec import encode
from common.rpc.errors import IN_ONE_CALL
from common.rpc.prior import description, sample_request, samples
from common.rpc.retry import status_of
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Description, Draw
from ldcq.v1 import prior_pb2, prior_pb2_grpc, tensor_pb2

_STATES, _CANDIDATES, _SEED, _TIMEOUT = 3, 4, 11, 60.0
_NEIGHBOURS, _REPETITIONS = 6, 4  # every third call is a repetition, the first included
_ROUNDS = 3

Latents = NDArray[np.float32]
Request = prior_pb2.PriorServiceSampleRequest


@dataclass(frozen=True)
class CheckResult:
    """One promise, whether it is kept, and what was seen."""

    name: str
    passed: bool
    detail: str


class BrokenPromise(Exception):  # noqa: N818 - a finding, not an error
    """What was seen instead."""


def check_prior(target: str) -> Iterator[CheckResult]:
    """Checks a running prior service, in whatever language it is written.

    Args:
        target: See `common.rpc.channel.connect`.

    Yields:
        One result per promise. Where `Describe` itself fails, nothing after it can be asked.
    """
    with connect(target, health_service=None) as channel:
        yield _run("health", lambda: _health(channel))
        prior = _Prior(channel)
        described = _run("describe", prior.describe)
        yield described
        if described.passed:
            for name, check in _ANSWERS.items():
                yield _run(name, partial(check, prior))
            for name, refusal in _refusals(prior.description).items():
                yield _run(name, partial(_refused, prior, *refusal))


def _run(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, True, check())
    except grpc.RpcError as error:
        code, details = status_of(error)
        return CheckResult(name, False, f"the call failed with {code.name}: {details}")
    except Exception as broken:
        return CheckResult(name, False, str(broken))


def _health(channel: grpc.Channel) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    status = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT).status
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if name != "SERVING":
        raise BrokenPromise(f"grpc.health.v1 says {name} for the server, expected SERVING")
    return name


class _Prior:
    """The prior under test, and requests that fit it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = prior_pb2_grpc.PriorServiceStub(channel)
        self.description: Description

    def describe(self) -> str:
        """Asks what the prior is, and whether that is possible."""
        reply = self.stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=_TIMEOUT)
        self.description = found = description(reply)
        problems = _impossible(found)
        if problems:
            raise BrokenPromise("; ".join(problems))
        dimensions = f"S={found.state_dim}, Z={found.latent_dim}"
        return f"{found.implementation} {found.model_version}, {dimensions}"

    def request(self, seed: int = _SEED, states: int = _STATES) -> Request:
        """A request that must be answered."""
        generator = np.random.default_rng(seed)
        goal_dim = self.description.goal_dim
        rows = generator.standard_normal((states, self.description.state_dim), np.float32)
        goals = generator.standard_normal((states, goal_dim), np.float32) if goal_dim else None
        return sample_request(Draw(rows, _CANDIDATES, SamplingConfig(), seed, goals))

    def reply(self, request: Request) -> prior_pb2.PriorServiceSampleResponse:
        """The raw reply to a request."""
        return self.stub.Sample(request, timeout=_TIMEOUT)

    def latents(self, request: Request) -> Latents:
        """The latents of the reply to a request."""
        return samples(self.reply(request), request).latents


def _impossible(found: Description) -> list[str]:
    """What in a description cannot be."""
    solver, steps = found.defaults.solver, found.defaults.steps or 0
    least = {"state_dim": 1, "latent_dim": 1, "goal_dim": 0, "training_steps": 0, "max_rows": 1}
    empty = ("implementation", "model_version", "vae_version")
    rules = {
        **{f"{name} is empty": not getattr(found, name) for name in empty},
        **{
            f"{name} is {getattr(found, name)}, expected {'at least 1' if low else '0 or more'}": (
                getattr(found, name) < low
            )
            for name, low in least.items()
        },
        "solvers is empty though training_steps is not 0": (
            found.training_steps > 0 and not found.solvers
        ),
        f"defaults.solver {solver!r} is none of {found.solvers}": (
            solver not in (None, *found.solvers)
        ),
        f"defaults.steps {steps} is above training_steps": steps > found.training_steps,
    }
    return [problem for problem, seen in rules.items() if seen]


def _shape(prior: _Prior) -> str:
    reply = prior.reply(prior.request())
    expected = (_STATES, _CANDIDATES, prior.description.latent_dim)
    if reply.latents.dtype != tensor_pb2.DTYPE_FLOAT32:
        raise BrokenPromise(f"element type number {reply.latents.dtype}, expected float32")
    latents = samples(reply, prior.request()).latents
    if latents.shape != expected:
        raise BrokenPromise(f"latents of shape {latents.shape}, expected {expected}")
    return str(latents.shape)


def _reply_version(prior: _Prior) -> str:
    request = prior.request()
    request.expected_model_version = prior.description.model_version
    version = prior.reply(request).model_version
    if version != prior.description.model_version:
        raise BrokenPromise(f"{version!r}, but Describe says {prior.description.model_version!r}")
    return version


def _same_seed(prior: _Prior) -> str:
    first, second = prior.latents(prior.request()), prior.latents(prior.request())
    _expect_equal(first, second, "two calls with one seed")
    return "bit for bit"


def _other_seed(prior: _Prior) -> str:
    request = prior.request()
    first = prior.latents(request)
    request.seed = _SEED + 1
    if np.array_equal(first, prior.latents(request)):
        raise BrokenPromise("two seeds gave the same latents")
    return "the latents differ"


def _other_goal(prior: _Prior) -> str:
    """The latents of a prior with goals depend on them."""
    if not prior.description.goal_dim:
        return "not asked: it has no goals"
    request = prior.request()
    first = prior.latents(request)
    request.goals.CopyFrom(encode(np.ones((_STATES, prior.description.goal_dim), np.float32)))
    if np.array_equal(first, prior.latents(request)):
        raise BrokenPromise("two goals gave the same latents")
    return "the latents differ"


def _alone_or_not(prior: _Prior) -> str:
    """The latents of a call do not depend on the calls made beside it."""
    alone = prior.latents(prior.request())
    with futures.ThreadPoolExecutor(_NEIGHBOURS + _REPETITIONS) as executor:
        for _ in range(_ROUNDS):
            # Interleaved, so that some of the repetitions run beside others whatever the timing.
            calls = [
                executor.submit(prior.latents, prior.request(seed=100 + i, states=1 + i % 3))
                if i % 3
                else executor.submit(prior.latents, prior.request())
                for i in range(_NEIGHBOURS + _REPETITIONS)
            ]
            for i, call in enumerate(calls):
                latents = call.result()
                if i % 3 == 0:
                    _expect_equal(alone, latents, "a call alone and one beside others")
    return f"bit for bit beside {_NEIGHBOURS} other calls"


def _expect_equal(first: Latents, second: Latents, what: str) -> None:
    if first.shape != second.shape:
        raise BrokenPromise(f"{what} gave shapes {first.shape} and {second.shape}")
    if not np.array_equal(first, second):
        difference = float(np.abs(first - second).max())
        raise BrokenPromise(f"{what} gave latents that differ by up to {difference:.3g}")


_ANSWERS: dict[str, Callable[[_Prior], str]] = {
    "shape": _shape,
    "reply names the model version": _reply_version,
    "same seed, same latents": _same_seed,
    "other seed, other latents": _other_seed,
    "other goals, other latents": _other_goal,
    "latents do not depend on calls beside": _alone_or_not,
}

_INVALID, _UNFIT = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
_TOO_LARGE = grpc.StatusCode.RESOURCE_EXHAUSTED
_MOST_CANDIDATES = 2**31 - 1


def _refusals(found: Description) -> dict[str, tuple[grpc.StatusCode, str, str, Any]]:
    """What a prior must refuse, by the name of the check: with which status code, naming what, and
    the field with its value (None: without it) that makes a request one to refuse.
    """

    def array(columns: int, value: float = 0.0, dtype: type = np.float32) -> tensor_pb2.Tensor:
        return encode(np.full((_STATES, columns), value, dtype))

    options, size, goals = prior_pb2.SamplerOptions, found.state_dim, found.goal_dim
    flat, short = encode(np.zeros((size,), np.float32)), array(size)
    short.data = short.data[:-1]
    unknown = np.zeros((_STATES, size), np.float32)
    unknown[-1, -1] = np.nan
    steps, nulled = options(steps=found.training_steps + 1), options(nulled="no-such-part")
    version, other_goals = "0000000000000000-no-such-version", None if goals else array(2)
    many = min(found.max_rows // _STATES + 1, _MOST_CANDIDATES)
    return {
        "refuses a wrong state dimension": (_INVALID, "states", "states", array(size + 1)),
        "refuses a wrong rank": (_INVALID, "states", "states", flat),
        "refuses a wrong element type": (_INVALID, "states", "states", array(size, 0, np.int32)),
        "refuses NaN": (_INVALID, "states", "states", encode(unknown)),
        "refuses data shorter than its shape": (_INVALID, "states", "states", short),
        "refuses 0 candidates": (_INVALID, "candidates", "candidates", 0),
        "refuses more than max_rows": (_TOO_LARGE, IN_ONE_CALL, "candidates", many),
        "refuses an unknown solver": (_INVALID, "solver", "options", options(solver="no-such")),
        "refuses more steps than T": (_INVALID, "steps", "options", steps),
        "refuses to null what there is not": (_INVALID, "nulled", "options", nulled),
        "refuses another model version": (_UNFIT, "version", "expected_model_version", version),
        "refuses goals that do not fit it": (_UNFIT, "goals", "goals", other_goals),
        "refuses a wrong goal dimension": (_INVALID, "goals", "goals", array(goals + 1)),
        "refuses an infinite goal": (_INVALID, "goals", "goals", array(goals, np.inf)),
    }


def _refused(prior: _Prior, code: grpc.StatusCode, named: str, field: Any, value: Any) -> str:
    if field == "goals" and code is _INVALID and not prior.description.goal_dim:
        return "not asked: it has no goals"
    if code is _TOO_LARGE and _STATES * value <= prior.description.max_rows:
        return "not asked: no call can have so many"
    request = prior.request()
    request.ClearField(field)
    request.MergeFrom(Request(**{field: value}))
    try:
        prior.reply(request)
    except grpc.RpcError as error:
        got, details = status_of(error)
        if got is not code:
            raise BrokenPromise(f"{got.name} ({details}), expected {code.name}") from error
        if named not in details:
            raise BrokenPromise(f"the message does not name {named}: {details!r}") from error
        return details
    raise BrokenPromise(f"was answered, expected {code.name}")
