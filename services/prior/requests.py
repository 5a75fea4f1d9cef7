"""`Sample` requests, checked against the model that will answer them."""

from __future__ import annotations

from common.rpc.codec import decode
from common.rpc.errors import (
    FailedPreconditionError,
    InvalidFieldError,
    TooLargeError,
    VersionMismatchError,
)
from ldcq.config import SamplingConfig
from ldcq.latent_prior import MAX_ROWS, Draw, OptionError
from ldcq.v1 import prior_pb2
from services.prior.model import ServedPrior
from services.prior.queueing import Priority

_PRIORITIES: dict[int, Priority] = {
    prior_pb2.PRIORITY_UNSPECIFIED: "learner",
    prior_pb2.PRIORITY_LEARNER: "learner",
    prior_pb2.PRIORITY_ACTOR: "actor",
}


def parse_request(
    message: prior_pb2.PriorServiceSampleRequest, model: ServedPrior
) -> tuple[Draw, Priority]:
    """A request as a draw whose options are resolved, and who is asking.

    Args:
        message: Of anyone.
        model: What is to answer.

    Raises:
        VersionMismatchError: Another version is expected.
        InvalidFieldError: A field is malformed, or does not fit the model.
        TooLargeError: More latents than one call may ask for.
        FailedPreconditionError: Goals were given, and the model has none, or the reverse.
    """
    described = model.description
    if message.HasField("expected_model_version"):
        expected = message.expected_model_version
        if expected != described.model_version:
            raise VersionMismatchError(described.model_version, expected)
    _check_goals(message.HasField("goals"), described.goal_dim)
    if message.priority not in _PRIORITIES:
        raise InvalidFieldError("priority", message.priority, "PRIORITY_LEARNER or PRIORITY_ACTOR")
    if message.candidates < 1:
        raise InvalidFieldError("candidates", message.candidates, "at least 1")
    states = decode(message.states, field="states", shape=(None, described.state_dim))
    if len(states) == 0:
        raise InvalidFieldError("states", f"shape {states.shape}", "at least one state")
    if len(states) * message.candidates > MAX_ROWS:
        given = f"{len(states)} states x {message.candidates} candidates"
        raise TooLargeError("candidates", given, MAX_ROWS, "latents")
    goals = None
    if described.goal_dim:
        goals = decode(message.goals, field="goals", shape=(len(states), described.goal_dim))
    options = _resolved(message.options, model)
    draw = Draw(states, message.candidates, options, message.seed, goals)
    return draw, _PRIORITIES[message.priority]


def _check_goals(given: bool, goal_dim: int) -> None:
    if given and not goal_dim:
        raise FailedPreconditionError("goals: got some; expected none, this prior has no goals")
    if goal_dim and not given:
        raise FailedPreconditionError(
            f"goals: got none; expected shape (N, {goal_dim}), this prior has goals"
        )


def _resolved(message: prior_pb2.SamplerOptions, model: ServedPrior) -> SamplingConfig:
    given = {field.name: value for field, value in message.ListFields()}
    try:
        # Not validated before: only the model knows what it takes.
        return model.sampler.resolve(SamplingConfig.model_construct(None, **given))
    except OptionError as error:
        raise InvalidFieldError(f"options.{error.field}", error.given, error.expected) from error
