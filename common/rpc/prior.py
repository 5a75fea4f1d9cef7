"""The messages of `PriorService` as Python values."""

from __future__ import annotations

from typing import Literal

import numpy as np

from common.rpc.codec import decode, encode
from common.rpc.errors import CallError, InvalidFieldError
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Description, Draw, Samples
from ldcq.v1 import prior_pb2

FULL_NAME = prior_pb2.DESCRIPTOR.services_by_name["PriorService"].full_name

_PRIORITIES = {
    "learner": prior_pb2.PRIORITY_LEARNER,
    "actor": prior_pb2.PRIORITY_ACTOR,
}

PriorityName = Literal["learner", "actor"]


def sample_request(
    draw: Draw, *, priority: PriorityName = "learner", expected_version: str | None = None
) -> prior_pb2.PriorServiceSampleRequest:
    """A draw as a message.

    Args:
        draw: What is asked for; options that are None are left out, and so left to the model.
        priority: "actor" goes before "learner" where rows wait.
        expected_version: The only model version whose latents will do; None: any.
    """
    return prior_pb2.PriorServiceSampleRequest(
        states=encode(np.asarray(draw.states, dtype=np.float32)),
        goals=None if draw.goals is None else encode(np.asarray(draw.goals, dtype=np.float32)),
        candidates=draw.candidates,
        options=sampler_options(draw.options),
        seed=draw.seed,
        priority=_PRIORITIES[priority],
        expected_model_version=expected_version,
    )


def sampler_options(options: SamplingConfig) -> prior_pb2.SamplerOptions:
    """The options as a message; what is None is left out, and so left to the model."""
    return prior_pb2.SamplerOptions(**options.model_dump(exclude_none=True))


def sampling_config(options: prior_pb2.SamplerOptions) -> SamplingConfig:
    """The message as options; what is left out is None.

    Raises:
        ValueError: A value is impossible for any model (pydantic names it).
    """
    return SamplingConfig.model_validate(
        {descriptor.name: value for descriptor, value in options.ListFields()}
    )


def description(reply: prior_pb2.PriorServiceDescribeResponse) -> Description:
    """A reply to `Describe` as a value.

    Raises:
        CallError: Its sampling defaults are impossible.
    """
    try:
        defaults = sampling_config(reply.defaults)
    except ValueError as error:
        raise CallError(f"the prior's sampling defaults make no sense: {error}") from error
    return Description(
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
        latents = decode(reply.latents, field="latents", shape=shape, max_rows=None)
    except InvalidFieldError as error:
        raise CallError(f"the prior's reply makes no sense: {error}") from error
    return Samples(latents, reply.model_version, reply.queue_seconds, reply.compute_seconds)
