"""The conformance checks pass on a correct prior, and each fails on one that breaks its promise."""

from __future__ import annotations

import pytest

from common.rpc.conformance import check_prior
from common.rpc.prior import FULL_NAME
from common.rpc.server import Server
from ldcq.v1 import prior_pb2_grpc
from tests.common.rpc.conftest import Start
from tests.numpy_prior import NumpyPrior

FAULTS = {
    "shape": "shape",
    "double": "shape",
    "reply version": "reply names the model version",
    "same seed": "same seed, same latents",
    "other seed": "other seed, other latents",
    "batch": "latents do not depend on calls beside",
    "dimension": "refuses a wrong state dimension",
    "rank": "refuses a wrong rank",
    "dtype": "refuses a wrong element type",
    "nan": "refuses NaN",
    "data": "refuses data shorter than its shape",
    "candidates": "refuses 0 candidates",
    "rows": "refuses more than max_rows",
    "solver": "refuses an unknown solver",
    "steps": "refuses more steps than T",
    "nulled": "refuses to null what there is not",
    "version": "refuses another model version",
    "goals": "refuses goals that do not fit it",
}

GOAL_FAULTS = {
    "other goal": "other goals, other latents",
    "goal dimension": "refuses a wrong goal dimension",
    "infinite goal": "refuses an infinite goal",
}


@pytest.mark.parametrize("goals", [False, True])
def test_a_correct_prior_passes_every_check(start: Start, goals: bool) -> None:
    results = list(check_prior(start(NumpyPrior(goals=goals))))
    assert [result for result in results if not result.passed] == []
    assert {result.name for result in results} >= {
        "health",
        "describe",
        *FAULTS.values(),
        *GOAL_FAULTS.values(),
    }


@pytest.mark.parametrize("fault", [*FAULTS, *GOAL_FAULTS])
def test_a_broken_promise_is_found_by_its_check(start: Start, fault: str) -> None:
    prior = NumpyPrior(fault, goals=fault in GOAL_FAULTS)
    failed = {result.name for result in check_prior(start(prior)) if not result.passed}
    # Random latents cannot be equal beside other calls either.
    also = {"latents do not depend on calls beside"} if fault == "same seed" else set()
    assert failed == {(FAULTS | GOAL_FAULTS)[fault], *also}


def test_a_refusal_with_another_code_is_none(start: Start) -> None:
    results = {result.name: result for result in check_prior(start(NumpyPrior("wrong code")))}
    result = results["refuses an unknown solver"]
    assert not result.passed
    assert "INTERNAL" in result.detail
    assert "expected INVALID_ARGUMENT" in result.detail


def test_a_description_that_makes_no_sense_ends_the_checks(start: Start) -> None:
    health, describe = check_prior(start(NumpyPrior("describe")))
    assert health.passed
    assert not describe.passed
    assert describe.detail == "model_version is empty"


def test_a_prior_without_health_is_found() -> None:
    server = Server(linger=0.0)
    server.add(prior_pb2_grpc.add_PriorServiceServicer_to_server, NumpyPrior(), FULL_NAME)
    try:
        results = {result.name: result for result in check_prior(server.start())}
    finally:
        server.drain(0)
    assert [name for name, result in results.items() if not result.passed] == ["health"]
    assert "NOT_SERVING" in results["health"].detail


def test_nobody_there_fails_and_does_not_raise(start: Start) -> None:
    address = start(NumpyPrior()).rpartition(":")[0] + ":1"
    assert [result.passed for result in check_prior(address)] == [False, False]
