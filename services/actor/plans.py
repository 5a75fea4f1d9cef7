"""The token that carries a plan between calls of a stateless actor.

It ends with a checksum, so that one that was changed on its way is refused. It has no key: whoever
may call may choose actions anyway, and any replica must take it (docs/adr/0021).
"""

from __future__ import annotations

import hashlib

import numpy as np
from google.protobuf.message import DecodeError

from common.rpc.codec import decode, encode
from common.rpc.errors import FailedPreconditionError, InvalidFieldError
from ldcq.policies.base import Plan
from ldcq.v1 import actor_pb2

_MOST_PLANS = 2**62
"""Far beyond any episode; a larger counter in a token is garbage, and would overflow when it
grows."""
_CHECKSUM_BYTES = 16


def to_token(plan: Plan, *, method: str, model_versions: str) -> bytes:
    """The plan as an opaque token for a client; the method and its models chose the latents."""
    message = actor_pb2.PlanToken(
        method=method,
        model_versions=model_versions,
        latents=encode(plan.latents),
        steps_left=encode(plan.steps_left),
        plans=plan.plans,
    )
    return sealed(message.SerializeToString(deterministic=True))


def sealed(content: bytes) -> bytes:
    """A serialised plan with its checksum behind it, as one more field of the message."""
    digest = hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES, person=b"ldcq plan token")
    return content + actor_pb2.PlanToken(checksum=digest.digest()).SerializeToString()


def from_token(
    token: bytes,
    *,
    method: str,
    model_versions: str,
    environments: int,
    latent_dim: int,
    execute_steps: int,
) -> Plan:
    """Reads a token back, believing nothing of it.

    Args:
        token: What the client sent.
        method: The method that the client now asks for.
        model_versions: The models that the method now uses.
        environments: E of the request.
        latent_dim: Z of the models.
        execute_steps: The most steps of a latent that are executed.

    Raises:
        InvalidFieldError: It is no token, or not one of this method and these environments.
        FailedPreconditionError: It was made by other models.
    """
    try:
        message = actor_pb2.PlanToken.FromString(token)
    except DecodeError:
        message = None
    if message is None or token != sealed(token[: -len(sealed(b""))]):
        raise InvalidFieldError(
            "plan_token",
            f"{len(token)} bytes that are no plan token",
            "the plan_token of the last reply, unchanged",
        )
    if message.method != method:
        raise InvalidFieldError(
            "plan_token.method", repr(message.method), f"{method!r}, the method asked for"
        )
    if message.model_versions != model_versions:
        raise FailedPreconditionError(
            f"plan_token was made by the models {message.model_versions!r}, {method!r} now uses "
            f"{model_versions!r}: leave plan_token out to start a new plan"
        )
    latents = decode(message.latents, field="plan_token.latents", shape=(environments, latent_dim))
    left = decode(
        message.steps_left, field="plan_token.steps_left", shape=(environments,), dtype=np.int32
    )
    if ((left < 0) | (left >= execute_steps)).any():
        raise InvalidFieldError(
            "plan_token.steps_left", str(left.tolist()[:8]), f"values from 0 to {execute_steps - 1}"
        )
    if message.plans > _MOST_PLANS:
        raise InvalidFieldError("plan_token.plans", str(message.plans), f"at most {_MOST_PLANS}")
    # Copied: decoded arrays may be read-only views of the message.
    return Plan(np.array(latents), np.array(left), int(message.plans))
