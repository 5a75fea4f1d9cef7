"""The messages of `PriorService` as Python values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from common.rpc.codec import decode, encode
from common.rpc.errors import CallError, InvalidFieldError
from ldcq.config import SamplingConfig
from ldcq.v1 import prior_pb2

FULL_NAME = prior_pb2.DESCRIPTOR.services_by_name["PriorService"].full_name

_PRIORITIES = {
    "learner": prior_pb2.PRIORITY_LEARNER,
    "actor": prior_pb2.PRIORITY_ACTOR,
}

PriorityName = Literal["learner", "actor"]
States = NDArray[np.floating[Any]]


class SampleArguments(TypedDict, total=False):
    """The keyword arguments of `PriorClient.sample`, which explains them."""

    seed: int
    options: SamplingConfig | None
    goals: States | None
    priority: PriorityName
    expected_version: str | None
    timeout: float | None


@dataclass(frozen=True)
class PriorDescription:
    """What a prior says of itself; the fields are those of `PriorServiceDescribeResponse`."""

    implementation: str
    model_version: str
    vae_version: str
    state_dim: int
    latent_dim: int
    goal_dim: int
    training_steps: int
    solvers: tuple[str, ...]
    defaults: SamplingConfig
    max_rows: int


@dataclass(frozen=True)
class Samples:
    """A reply to `Sample`.

    Attributes:
        latents: Shape (N, n, Z), float32, in the VAE's latent space; read-only.
        model_version: The model that made them.
        queue_seconds: Seconds the call waited at the server.
        compute_seconds: Seconds the server spent sampling.
    """

    latents: NDArray[np.float32]
    model_version: str
    queue_seconds: float
    compute_seconds: float


def sample_request(
    states: States,
    candidates: int,
    *,
    seed: int,
    options: SamplingConfig | None = None,
    goals: States | None = None,
    priority: PriorityName = "learner",
    expected_version: str | None = None,
) -> prior_pb2.PriorServiceSampleRequest:
    """A request for `candidates` latents for every one of `states` (N, S)."""
    return prior_pb2.PriorServiceSampleRequest(
        states=encode(np.asarray(states, dtype=np.float32)),
        goals=None if goals is None else encode(np.asarray(goals, dtype=np.float32)),
        candidates=candidates,
        options=sampler_options(options),
        seed=seed,
        priority=_PRIORITIES[priority],
        expected_model_version=expected_version,
    )


def sampler_options(options: SamplingConfig | None) -> prior_pb2.SamplerOptions:
    """The options as a message; what is None is left out, and so left to the model."""
    given = {} if options is None else options.model_dump(exclude_none=True)
    return prior_pb2.SamplerOptions(**given)


def sampling_config(options: prior_pb2.SamplerOptions) -> SamplingConfig:
    """The message as options; what is left out is None.

    Raises:
        ValueError: A value is impossible for any model (pydantic names it).
    """
    return SamplingConfig.model_validate(
        {descriptor.name: value for descriptor, value in options.ListFields()}
    )


def description(reply: prior_pb2.PriorServiceDescribeResponse) -> PriorDescription:
    """A reply to `Describe` as a value.

    Raises:
        CallError: Its sampling defaults are impossible.
    """
    try:
        defaults = sampling_config(reply.defaults)
    except ValueError as error:
        raise CallError(f"the prior's sampling defaults make no sense: {error}") from error
    return PriorDescription(
        implementation=reply.implementation,
        model_version=reply.model_version,
        vae_version=reply.vae_version,
        state_dim=reply.state_dim,
        latent_dim=reply.latent_dim,
        goal_dim=reply.goal_dim,
        training_steps=reply.training_steps,
        solvers=tuple(reply.solvers),
        defaults=defaults,
        max_rows=reply.max_rows,
    )


def samples(
    reply: prior_pb2.PriorServiceSampleResponse, request: prior_pb2.PriorServiceSampleRequest
) -> Samples:
    """A reply to `Sample` as a value.

    Raises:
        CallError: Its latents are not what the request asked for.
    """
    try:
        shape = (request.states.shape[0], request.candidates, None)
        latents = decode(reply.latents, field="latents", shape=shape)
    except InvalidFieldError as error:
        raise CallError(f"the prior's reply makes no sense: {error}") from error
    return Samples(latents, reply.model_version, reply.queue_seconds, reply.compute_seconds)
