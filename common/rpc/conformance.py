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

from common.config import SamplingConfig
from common.rpc.channel import connect
from common.rpc.codec import encode
from common.rpc.prior import (
    PriorDescription,
    description,
    sample_request,
    sampler_options,
    samples,
)
from common.rpc.retry import status_of
from ldcq.v1 import prior_pb2, prior_pb2_grpc, tensor_pb2

_STATES, _CANDIDATES, _SEED = 3, 4, 11
_NEIGHBOURS, _REPETITIONS = 6, 4  # every third call is a repetition, the first included
_ROUNDS = 3
_TIMEOUT = 60.0
_NO_SUCH_VERSION = "0000000000000000-no-such-version"
_NO_SUCH_SOLVER = "no-such-solver"

Latents = NDArray[np.float32]
Request = prior_pb2.PriorServiceSampleRequest


@dataclass(frozen=True)
class CheckResult:
    """One promise, whether it is kept, and what was seen."""

    name: str
    passed: bool
    detail: str


class _BrokenPromise(Exception):  # noqa: N818 - a finding, not an error
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
            for name, check in _CHECKS.items():
                yield _run(name, partial(check, prior))


def _run(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, True, check())
    except grpc.RpcError as error:
        code, details = status_of(error)
        return CheckResult(name, False, f"the call failed with {code.name}: {details}")
    except Exception as broken:
        return CheckResult(name, False, str(broken))


class _Prior:
    """The prior under test, and requests that fit it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = prior_pb2_grpc.PriorServiceStub(channel)
        self.description: PriorDescription

    def describe(self) -> str:
        """Asks what the prior is, and whether that is possible."""
        reply = self.stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=_TIMEOUT)
        self.description = found = description(reply)
        problems = _impossible(found)
        if problems:
            raise _BrokenPromise("; ".join(problems))
        dimensions = f"S={found.state_dim}, Z={found.latent_dim}"
        return f"{found.implementation} {found.model_version}, {dimensions}"

    def request(self, seed: int = _SEED, states: int = _STATES) -> Request:
        """A request that must be answered."""
        generator = np.random.default_rng(seed)
        goal_dim = self.description.goal_dim
        return sample_request(
            generator.standard_normal((states, self.description.state_dim)),
            _CANDIDATES,
            seed=seed,
            goals=generator.standard_normal((states, goal_dim)) if goal_dim else None,
        )

    def reply(self, request: Request) -> prior_pb2.PriorServiceSampleResponse:
        """The raw reply to a request."""
        return self.stub.Sample(request, timeout=_TIMEOUT)

    def latents(self, request: Request) -> Latents:
        """The latents of the reply to a request."""
        return samples(self.reply(request), request).latents


def _health(channel: grpc.Channel) -> str:
    stub = health_pb2_grpc.HealthStub(channel)
    status = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT).status
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if name != "SERVING":
        raise _BrokenPromise(f"grpc.health.v1 says {name} for the server, expected SERVING")
    return name


def _impossible(found: PriorDescription) -> list[str]:
    """What in a description cannot be."""
    defaults = found.defaults
    rules = {
        "implementation is empty": not found.implementation,
        "model_version is empty": not found.model_version,
        "vae_version is empty": not found.vae_version,
        f"state_dim is {found.state_dim}, expected at least 1": found.state_dim < 1,
        f"latent_dim is {found.latent_dim}, expected at least 1": found.latent_dim < 1,
        f"goal_dim is {found.goal_dim}, expected 0 or more": found.goal_dim < 0,
        f"training_steps is {found.training_steps}, expected 0 or more": found.training_steps < 0,
        f"max_rows is {found.max_rows}, expected at least 1": found.max_rows < 1,
        "solvers is empty though training_steps is not 0": found.training_steps > 0
        and not found.solvers,
        f"defaults.solver {defaults.solver!r} is none of {found.solvers}": defaults.solver
        not in (None, *found.solvers),
        f"defaults.steps {defaults.steps} is above training_steps": (defaults.steps or 0)
        > found.training_steps,
    }
    return [problem for problem, seen in rules.items() if seen]


def _shape(prior: _Prior) -> str:
    reply = prior.reply(prior.request())
    expected = (_STATES, _CANDIDATES, prior.description.latent_dim)
    if reply.latents.dtype != tensor_pb2.DTYPE_FLOAT32:
        raise _BrokenPromise(f"element type number {reply.latents.dtype}, expected float32")
    latents = samples(reply, prior.request()).latents
    if latents.shape != expected:
        raise _BrokenPromise(f"latents of shape {latents.shape}, expected {expected}")
    return str(latents.shape)


def _reply_version(prior: _Prior) -> str:
    request = prior.request()
    request.expected_model_version = prior.description.model_version
    version = prior.reply(request).model_version
    if version != prior.description.model_version:
        raise _BrokenPromise(f"{version!r}, but Describe says {prior.description.model_version!r}")
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
        raise _BrokenPromise("two seeds gave the same latents")
    return "the latents differ"


def _other_goal(prior: _Prior) -> str:
    """The latents of a prior with goals depend on them."""
    request = prior.request()
    first = prior.latents(request)
    request.goals.CopyFrom(encode(_goals(prior.description) + np.float32(1)))
    if np.array_equal(first, prior.latents(request)):
        raise _BrokenPromise("two goals gave the same latents")
    return "the latents differ"


def _goals(found: PriorDescription, columns: int = 0) -> Latents:
    return np.zeros((_STATES, found.goal_dim + columns), np.float32)


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
        raise _BrokenPromise(f"{what} gave shapes {first.shape} and {second.shape}")
    if not np.array_equal(first, second):
        difference = float(np.abs(first - second).max())
        raise _BrokenPromise(f"{what} gave latents that differ by up to {difference:.3g}")


def _with_goals(check: Callable[[_Prior], str]) -> Callable[[_Prior], str]:
    """A check that is passed by a prior without goals."""
    return lambda prior: check(prior) if prior.description.goal_dim else "it has no goals"


def _refusal(
    change: Callable[[Request, PriorDescription], None], code: grpc.StatusCode, field: str
) -> Callable[[_Prior], str]:
    """A check that a request changed by `change` is refused with `code`, naming `field`."""

    def check(prior: _Prior) -> str:
        request = prior.request()
        change(request, prior.description)
        try:
            prior.reply(request)
        except grpc.RpcError as error:
            got, details = status_of(error)
            if got is not code:
                raise _BrokenPromise(f"{got.name} ({details}), expected {code.name}") from error
            if field not in details:
                raise _BrokenPromise(f"the message does not name {field}: {details!r}") from error
            return details
        raise _BrokenPromise(f"was answered, expected {code.name}")

    return check


def _set_states(request: Request, states: NDArray[Any]) -> None:
    request.states.CopyFrom(encode(states))


def _wrong_dimension(request: Request, found: PriorDescription) -> None:
    _set_states(request, np.zeros((_STATES, found.state_dim + 1), np.float32))


def _wrong_rank(request: Request, found: PriorDescription) -> None:
    _set_states(request, np.zeros((found.state_dim,), np.float32))


def _wrong_dtype(request: Request, found: PriorDescription) -> None:
    _set_states(request, np.zeros((_STATES, found.state_dim), np.int32))


def _not_a_number(request: Request, found: PriorDescription) -> None:
    states = np.zeros((_STATES, found.state_dim), np.float32)
    states[-1, -1] = np.nan
    _set_states(request, states)


def _cut_short(request: Request, found: PriorDescription) -> None:  # noqa: ARG001
    request.states.data = request.states.data[:-1]


def _no_candidates(request: Request, found: PriorDescription) -> None:  # noqa: ARG001
    request.candidates = 0


def _unknown_solver(request: Request, found: PriorDescription) -> None:  # noqa: ARG001
    request.options.CopyFrom(sampler_options(SamplingConfig(solver=_NO_SUCH_SOLVER)))


def _too_many_steps(request: Request, found: PriorDescription) -> None:
    request.options.CopyFrom(sampler_options(SamplingConfig(steps=found.training_steps + 1)))


def _other_version(request: Request, found: PriorDescription) -> None:  # noqa: ARG001
    request.expected_model_version = _NO_SUCH_VERSION


def _nulls_nonsense(request: Request, found: PriorDescription) -> None:  # noqa: ARG001
    request.options.nulled = "no-such-part"


def _wrong_goal_dimension(request: Request, found: PriorDescription) -> None:
    request.goals.CopyFrom(encode(_goals(found, columns=1)))


def _infinite_goal(request: Request, found: PriorDescription) -> None:
    request.goals.CopyFrom(encode(_goals(found) + np.float32(np.inf)))


def _wrong_goals(request: Request, found: PriorDescription) -> None:
    if found.goal_dim:
        request.ClearField("goals")
    else:
        request.goals.CopyFrom(encode(np.zeros((_STATES, 2), np.float32)))


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

_CHECKS: dict[str, Callable[[_Prior], str]] = {
    "shape": _shape,
    "reply names the model version": _reply_version,
    "same seed, same latents": _same_seed,
    "other seed, other latents": _other_seed,
    "other goals, other latents": _with_goals(_other_goal),
    "latents do not depend on calls beside": _alone_or_not,
    "refuses a wrong state dimension": _refusal(_wrong_dimension, _INVALID, "states"),
    "refuses a wrong rank": _refusal(_wrong_rank, _INVALID, "states"),
    "refuses a wrong element type": _refusal(_wrong_dtype, _INVALID, "states"),
    "refuses NaN": _refusal(_not_a_number, _INVALID, "states"),
    "refuses data shorter than its shape": _refusal(_cut_short, _INVALID, "states"),
    "refuses 0 candidates": _refusal(_no_candidates, _INVALID, "candidates"),
    "refuses an unknown solver": _refusal(_unknown_solver, _INVALID, "solver"),
    "refuses more steps than T": _refusal(_too_many_steps, _INVALID, "steps"),
    "refuses to null what there is not": _refusal(_nulls_nonsense, _INVALID, "nulled"),
    "refuses another model version": _refusal(_other_version, _PRECONDITION, "version"),
    "refuses goals that do not fit it": _refusal(_wrong_goals, _PRECONDITION, "goals"),
    "refuses a wrong goal dimension": _with_goals(
        _refusal(_wrong_goal_dimension, _INVALID, "goals")
    ),
    "refuses an infinite goal": _with_goals(_refusal(_infinite_goal, _INVALID, "goals")),
}
