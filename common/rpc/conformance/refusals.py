"""Checks that a prior refuses what it cannot answer, with the code and the field's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from common.rpc.codec import encode
from common.rpc.conformance.subject import (
    STATES,
    BrokenPromise,
    Check,
    CheckedPrior,
    Request,
    blank_goals,
    where_there_are_goals,
)
from common.rpc.prior import sampler_options
from common.rpc.retry import status_of
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Description

_NO_SUCH_VERSION = "0000000000000000-no-such-version"
_NO_SUCH_SOLVER = "no-such-solver"


def _refusal(
    change: Callable[[Request, Description], None], code: grpc.StatusCode, field: str
) -> Check:
    """A check that a request changed by `change` is refused with `code`, naming `field`."""

    def check(prior: CheckedPrior) -> str:
        request = prior.request()
        change(request, prior.description)
        try:
            prior.reply(request)
        except grpc.RpcError as error:
            got, details = status_of(error)
            if got is not code:
                raise BrokenPromise(f"{got.name} ({details}), expected {code.name}") from error
            if field not in details:
                raise BrokenPromise(f"the message does not name {field}: {details!r}") from error
            return details
        raise BrokenPromise(f"was answered, expected {code.name}")

    return check


def _set_states(request: Request, states: NDArray[Any]) -> None:
    request.states.CopyFrom(encode(states))


def _wrong_dimension(request: Request, found: Description) -> None:
    _set_states(request, np.zeros((STATES, found.state_dim + 1), np.float32))


def _wrong_rank(request: Request, found: Description) -> None:
    _set_states(request, np.zeros((found.state_dim,), np.float32))


def _wrong_dtype(request: Request, found: Description) -> None:
    _set_states(request, np.zeros((STATES, found.state_dim), np.int32))


def _not_a_number(request: Request, found: Description) -> None:
    states = np.zeros((STATES, found.state_dim), np.float32)
    states[-1, -1] = np.nan
    _set_states(request, states)


def _cut_short(request: Request, found: Description) -> None:  # noqa: ARG001
    request.states.data = request.states.data[:-1]


def _no_candidates(request: Request, found: Description) -> None:  # noqa: ARG001
    request.candidates = 0


def _unknown_solver(request: Request, found: Description) -> None:  # noqa: ARG001
    request.options.CopyFrom(sampler_options(SamplingConfig(solver=_NO_SUCH_SOLVER)))


def _too_many_steps(request: Request, found: Description) -> None:
    request.options.CopyFrom(sampler_options(SamplingConfig(steps=found.training_steps + 1)))


def _other_version(request: Request, found: Description) -> None:  # noqa: ARG001
    request.expected_model_version = _NO_SUCH_VERSION


def _nulls_nonsense(request: Request, found: Description) -> None:  # noqa: ARG001
    request.options.nulled = "no-such-part"


def _wrong_goal_dimension(request: Request, found: Description) -> None:
    request.goals.CopyFrom(encode(blank_goals(found, columns=1)))


def _infinite_goal(request: Request, found: Description) -> None:
    request.goals.CopyFrom(encode(blank_goals(found) + np.float32(np.inf)))


def _wrong_goals(request: Request, found: Description) -> None:
    if found.goal_dim:
        request.ClearField("goals")
    else:
        request.goals.CopyFrom(encode(np.zeros((STATES, 2), np.float32)))


_INVALID = grpc.StatusCode.INVALID_ARGUMENT
_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION

REFUSALS: dict[str, Check] = {
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
    "refuses a wrong goal dimension": where_there_are_goals(
        _refusal(_wrong_goal_dimension, _INVALID, "goals")
    ),
    "refuses an infinite goal": where_there_are_goals(_refusal(_infinite_goal, _INVALID, "goals")),
}
