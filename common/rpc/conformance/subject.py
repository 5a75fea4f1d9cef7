"""The prior under test, and requests that fit it."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import numpy as np
from numpy.typing import NDArray

from common.rpc.prior import description, sample_request, samples
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Description, Draw
from ldcq.v1 import prior_pb2, prior_pb2_grpc

STATES, CANDIDATES, SEED = 3, 4, 11
TIMEOUT = 60.0

Latents = NDArray[np.float32]
Request = prior_pb2.PriorServiceSampleRequest


class BrokenPromise(Exception):  # noqa: N818 - a finding, not an error
    """What was seen instead."""


class CheckedPrior:
    """The prior under test."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.stub = prior_pb2_grpc.PriorServiceStub(channel)
        self.description: Description

    def describe(self) -> str:
        """Asks what the prior is, and whether that is possible."""
        reply = self.stub.Describe(prior_pb2.PriorServiceDescribeRequest(), timeout=TIMEOUT)
        self.description = found = description(reply)
        problems = _impossible(found)
        if problems:
            raise BrokenPromise("; ".join(problems))
        dimensions = f"S={found.state_dim}, Z={found.latent_dim}"
        return f"{found.implementation} {found.model_version}, {dimensions}"

    def request(self, seed: int = SEED, states: int = STATES) -> Request:
        """A request that must be answered."""
        generator = np.random.default_rng(seed)
        goal_dim = self.description.goal_dim
        rows = generator.standard_normal((states, self.description.state_dim), np.float32)
        goals = generator.standard_normal((states, goal_dim), np.float32) if goal_dim else None
        return sample_request(Draw(rows, CANDIDATES, SamplingConfig(), seed, goals))

    def reply(self, request: Request) -> prior_pb2.PriorServiceSampleResponse:
        """The raw reply to a request."""
        return self.stub.Sample(request, timeout=TIMEOUT)

    def latents(self, request: Request) -> Latents:
        """The latents of the reply to a request."""
        return samples(self.reply(request), request).latents


Check = Callable[[CheckedPrior], str]
"""Says what was seen, or raises `BrokenPromise`."""


def blank_goals(found: Description, columns: int = 0) -> Latents:
    """Goals of the right dimension, or wider, for the states of a request."""
    return np.zeros((STATES, found.goal_dim + columns), np.float32)


def where_there_are_goals(check: Check) -> Check:
    """A check that is passed by a prior without goals."""
    return lambda prior: check(prior) if prior.description.goal_dim else "it has no goals"


def _impossible(found: Description) -> list[str]:
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
