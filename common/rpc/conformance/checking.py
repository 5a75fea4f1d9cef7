"""Runs the checks one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc.channel import connect
from common.rpc.conformance.answers import ANSWERS
from common.rpc.conformance.refusals import REFUSALS
from common.rpc.conformance.subject import TIMEOUT, BrokenPromise, CheckedPrior
from common.rpc.retry import status_of


@dataclass(frozen=True)
class CheckResult:
    """One promise, whether it is kept, and what was seen."""

    name: str
    passed: bool
    detail: str


def check_prior(target: str) -> Iterator[CheckResult]:
    """Checks a running prior service, in whatever language it is written.

    Args:
        target: See `common.rpc.channel.connect`.

    Yields:
        One result per promise. Where `Describe` itself fails, nothing after it can be asked.
    """
    with connect(target, health_service=None) as channel:
        yield _run("health", lambda: _health(channel))
        prior = CheckedPrior(channel)
        described = _run("describe", prior.describe)
        yield described
        if described.passed:
            for name, check in (ANSWERS | REFUSALS).items():
                yield _run(name, partial(check, prior))


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
    status = stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT).status
    name: str = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    if name != "SERVING":
        raise BrokenPromise(f"grpc.health.v1 says {name} for the server, expected SERVING")
    return name
