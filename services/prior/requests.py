"""`Sample` requests, checked against the model that will answer them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.rpc.codec import decode
from common.rpc.errors import FailedPreconditionError, InvalidFieldError, VersionMismatchError
from ldcq.config import SamplingConfig
from ldcq.prior import OptionError
from ldcq.v1 import prior_pb2
from services.prior.model import ServedPrior
from services.prior.queueing import Priority

MAX_ROWS = 1 << 18
"""Most latents of one call: four times the paper's 128 states x 500 candidates."""

_PRIORITIES: dict[int, Priority] = {
    prior_pb2.PRIORITY_UNSPECIFIED: "learner",
    prior_pb2.PRIORITY_LEARNER: "learner",
    prior_pb2.PRIORITY_ACTOR: "actor",
}


@dataclass(frozen=True)
class SampleRequest:
    """A request that a model can answer.

    Attributes:
        states: Raw states, (N, S).
        candidates: n.
        options: What the request chose.
        seed: Fixes every random number.
        priority: Who is asking.
        expected_version: The version that must answer; None: any.
        goals: Raw goals, (N, G); None where the model has none.
    """

    states: NDArray[np.float32]
    candidates: int
    options: SamplingConfig
    seed: int
    priority: Priority
    expected_version: str | None
    goals: NDArray[np.float32] | None = None

    @property
    def rows(self) -> int:
        """N x n."""
        return len(self.states) * self.candidates


def parse_request(
    message: prior_pb2.PriorServiceSampleRequest, model: ServedPrior
) -> SampleRequest:
    """Checks everything but the model version, which is checked when the call is computed.

    Raises:
        InvalidFieldError: A field is malformed, or does not fit the model.
        FailedPreconditionError: Goals were given, and the model has none, or the reverse.
    """
    _check_goals(message.HasField("goals"), model)
    if message.priority not in _PRIORITIES:
        raise InvalidFieldError("priority", message.priority, "PRIORITY_LEARNER or PRIORITY_ACTOR")
    if message.candidates < 1:
        raise InvalidFieldError("candidates", message.candidates, "at least 1")
    states = decode(message.states, field="states", shape=(None, model.state_dim))
    if len(states) == 0:
        raise InvalidFieldError("states", f"shape {states.shape}", "at least one state")
    if len(states) * message.candidates > MAX_ROWS:
        given = f"{len(states)} states x {message.candidates} candidates"
        raise InvalidFieldError("candidates", given, f"at most {MAX_ROWS} latents per call")
    goals = None
    if model.goal_dim:
        goals = decode(message.goals, field="goals", shape=(len(states), model.goal_dim))
    request = SampleRequest(
        states=states,
        goals=goals,
        candidates=message.candidates,
        options=_options(message.options),
        seed=message.seed,
        priority=_PRIORITIES[message.priority],
        expected_version=(
            message.expected_model_version if message.HasField("expected_model_version") else None
        ),
    )
    _check_options(request, model)
    return request


def check_model(request: SampleRequest, model: ServedPrior) -> None:
    """Checks a parsed request against the model that is to compute it, which may be a newer one.

    Raises:
        VersionMismatchError: It is not the version expected.
        FailedPreconditionError: It has goals and the request has none, or the reverse.
        InvalidFieldError: The request does not fit it.
    """
    if request.expected_version not in (None, model.version):
        raise VersionMismatchError(model.version, str(request.expected_version))
    if request.states.shape[1] != model.state_dim:
        raise InvalidFieldError(
            "states", f"shape {request.states.shape}", f"(N, {model.state_dim})"
        )
    _check_goals(request.goals is not None, model)
    if request.goals is not None and request.goals.shape[1] != model.goal_dim:
        raise InvalidFieldError("goals", f"shape {request.goals.shape}", f"(N, {model.goal_dim})")
    _check_options(request, model)


def _check_goals(given: bool, model: ServedPrior) -> None:
    if given and not model.goal_dim:
        raise FailedPreconditionError("goals: got some; expected none, this prior has no goals")
    if model.goal_dim and not given:
        raise FailedPreconditionError(
            f"goals: got none; expected shape (N, {model.goal_dim}), this prior has goals"
        )


def _options(message: prior_pb2.SamplerOptions) -> SamplingConfig:
    """The options set, unchecked: only the model knows what it takes."""
    given = {field.name: value for field, value in message.ListFields()}
    return SamplingConfig.model_construct(**given)


def _check_options(request: SampleRequest, model: ServedPrior) -> None:
    try:
        model.sampler.check(request.options)
    except OptionError as error:
        raise InvalidFieldError(f"options.{error.field}", error.given, error.expected) from error
