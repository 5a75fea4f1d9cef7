"""A prior in this process behind the interface of the service's client, to take the wire out of a
measurement.
"""

from __future__ import annotations

import time
from concurrent.futures import Future

import numpy as np
import torch
from numpy.typing import NDArray

from common.rpc.clients import Samples
from ldcq.config import SamplingConfig
from ldcq.prior import sample
from services.prior.model import ServedPrior


class LocalPrior:
    """Answers `sample_async` at once, as `PriorClient` would.

    Args:
        prior: The model.
    """

    def __init__(self, prior: ServedPrior) -> None:
        self._prior = prior

    def sample_async(
        self,
        states: NDArray[np.float32],
        candidates: int,
        *,
        seed: int,
        options: SamplingConfig | None = None,
        goals: NDArray[np.float32] | None = None,
        priority: str = "learner",  # noqa: ARG002 - there is no queue
        expected_version: str | None = None,
    ) -> Future[Samples]:
        """Draws before it returns. Arguments and reply are `PriorClient.sample_async`'s."""
        if expected_version not in (None, self._prior.version):
            raise ValueError(
                f"expected_version is {expected_version!r}, expected {self._prior.version!r}"
            )
        start = time.perf_counter()
        rows = torch.as_tensor(states, dtype=torch.float32, device=self._prior.device)
        latents = sample(
            self._prior.sampler,
            rows,
            candidates,
            options or SamplingConfig(),
            seed,
            None if goals is None else torch.as_tensor(goals, device=self._prior.device),
        )
        reply: Future[Samples] = Future()
        seconds = time.perf_counter() - start
        reply.set_result(Samples(latents.cpu().numpy(), self._prior.version, 0.0, seconds))
        return reply
