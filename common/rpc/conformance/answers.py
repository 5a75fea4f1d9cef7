"""Checks of what a prior answers: shape, version, and latents that only seed and goal decide."""

from __future__ import annotations

from concurrent import futures

import numpy as np

from common.rpc.codec import encode
from common.rpc.conformance.subject import (
    CANDIDATES,
    SEED,
    STATES,
    BrokenPromise,
    Check,
    CheckedPrior,
    Latents,
    blank_goals,
    where_there_are_goals,
)
from common.rpc.prior import samples
from ldcq.v1 import tensor_pb2

_NEIGHBOURS, _REPETITIONS = 6, 4  # every third call is a repetition, the first included
_ROUNDS = 3


def _shape(prior: CheckedPrior) -> str:
    reply = prior.reply(prior.request())
    expected = (STATES, CANDIDATES, prior.description.latent_dim)
    if reply.latents.dtype != tensor_pb2.DTYPE_FLOAT32:
        raise BrokenPromise(f"element type number {reply.latents.dtype}, expected float32")
    latents = samples(reply, prior.request()).latents
    if latents.shape != expected:
        raise BrokenPromise(f"latents of shape {latents.shape}, expected {expected}")
    return str(latents.shape)


def _reply_version(prior: CheckedPrior) -> str:
    request = prior.request()
    request.expected_model_version = prior.description.model_version
    version = prior.reply(request).model_version
    if version != prior.description.model_version:
        raise BrokenPromise(f"{version!r}, but Describe says {prior.description.model_version!r}")
    return version


def _same_seed(prior: CheckedPrior) -> str:
    first, second = prior.latents(prior.request()), prior.latents(prior.request())
    _expect_equal(first, second, "two calls with one seed")
    return "bit for bit"


def _other_seed(prior: CheckedPrior) -> str:
    request = prior.request()
    first = prior.latents(request)
    request.seed = SEED + 1
    if np.array_equal(first, prior.latents(request)):
        raise BrokenPromise("two seeds gave the same latents")
    return "the latents differ"


def _other_goal(prior: CheckedPrior) -> str:
    """The latents of a prior with goals depend on them."""
    request = prior.request()
    first = prior.latents(request)
    request.goals.CopyFrom(encode(blank_goals(prior.description) + np.float32(1)))
    if np.array_equal(first, prior.latents(request)):
        raise BrokenPromise("two goals gave the same latents")
    return "the latents differ"


def _alone_or_not(prior: CheckedPrior) -> str:
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


ANSWERS: dict[str, Check] = {
    "shape": _shape,
    "reply names the model version": _reply_version,
    "same seed, same latents": _same_seed,
    "other seed, other latents": _other_seed,
    "other goals, other latents": where_there_are_goals(_other_goal),
    "latents do not depend on calls beside": _alone_or_not,
}
