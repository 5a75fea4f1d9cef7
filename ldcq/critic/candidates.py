"""Where the candidates of a target come from: drawn for every update, or out of a cache."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config
from ldcq.critic.replay import Minibatch, PrioritisedReplay
from ldcq.critic.transitions import Transitions
from ldcq.latent_prior import Draw, LatentPrior, Samples
from ldcq.learning.batches import generator
from ldcq.learning.learner import Stopped
from ldcq.prior import Sampler

STOP_POLL_SECONDS = 0.5


class CandidateSource(Protocol):
    """Gives each update its mini-batch and n candidate latents at every s_{t+H} of it."""

    def take(self, step: int) -> tuple[Minibatch, Tensor]:
        """The batch of update `step`, and its candidates in raw latent units, (B, n, Z)."""
        ...

    def updated(self, step: int) -> None:
        """Update `step` is done and its priorities are in the replay."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What is needed to give the same batches after a restart."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        ...


def call_seed(seed: int, purpose: str, number: int) -> int:
    """The seed of one Sample call: a function of the configuration and the call's place."""
    return generator(seed, "critic", purpose, number).initial_seed() & (2**63 - 1)


def wait_for_samples(call: Future[Samples], stop: threading.Event) -> Samples:
    """The reply to a call, unless the process is asked to end before it is there.

    Raises:
        PriorUnavailableError: No replica answered for as long as the client is patient.
        ModelVersionError: The service holds another model version.
        Stopped: `stop` was set.
    """
    while not stop.is_set():
        try:
            return call.result(timeout=STOP_POLL_SECONDS)
        except TimeoutError:
            if call.done():
                raise
    raise Stopped("asked to stop while waiting for the prior; it can be resumed")


def draw_batch(replay: PrioritisedReplay, config: Config, step: int) -> Minibatch:
    """The mini-batch of update `step` by the priorities as they are now (Algorithm 1, line 4)."""
    return replay.draw(
        step, config.critic.batch_size, generator(config.seed, "critic", "replay", step)
    )


@dataclass(frozen=True)
class _Pending:
    minibatch: Minibatch
    latents: Future[Samples] | Tensor


class OnlineCandidates:
    """Algorithm 1: every update's candidates are drawn anew, several updates ahead.

    The batch of update k + `calls_in_flight` is drawn right after update k, by the priorities at
    that time, and its Sample call is sent at once. So the calls overlap with the updates and with
    each other, yet which windows and latents an update gets never depends on how long a call took,
    on which replica answered it or on how many there are, none included: a prior in this process
    draws the same, on its own device.
    """

    def __init__(
        self,
        config: Config,
        prior: LatentPrior,
        transitions: Transitions,
        replay: PrioritisedReplay,
        stop: threading.Event | None = None,
    ) -> None:
        """Sends nothing yet.

        Args:
            config: Batch size, candidates, calls in flight, updates in all, sampling and seed.
            prior: Draws the candidates; calls may be answered in any order.
            transitions: The windows of the replay.
            replay: Where batches are drawn from.
            stop: Ends the waiting for a call; None: nothing does.
        """
        self._config = config
        self._prior = prior
        self._stop = stop or threading.Event()
        self._transitions = transitions
        self._replay = replay
        self._pending: deque[_Pending] = deque()
        self._next = 0

    def take(self, step: int) -> tuple[Minibatch, Tensor]:
        """Waits for the candidates of update `step`, (B, n, Z).

        Raises:
            PriorUnavailableError: No replica answered for as long as the client is patient; the
                batch stays pending.
            ModelVersionError: The service holds another model version.
            Stopped: `stop` was set meanwhile.
        """
        self._draw_until(step + self._config.critic.calls_in_flight)
        first = self._pending[0]
        latents = first.latents
        if isinstance(latents, Future):
            # Only forgotten once it is there: what is pending can be saved after a failure as well.
            drawn = wait_for_samples(latents, self._stop).latents
            latents = torch.from_numpy(np.array(drawn, dtype=np.float32))
        self._pending.popleft()
        return first.minibatch, latents

    def updated(self, step: int) -> None:
        """Draws the next batch ahead and sends its call."""
        self._draw_until(step + 1 + self._config.critic.calls_in_flight)

    def state_dict(self) -> dict[str, Any]:
        """The batches drawn ahead; their calls are sent again, with the same seeds."""
        batch = self._config.critic.batch_size
        drawn = [pending.minibatch for pending in self._pending]
        return {
            "next": self._next,
            "indices": np.array([one.indices for one in drawn], np.int64).reshape(-1, batch),
            "weights": np.array([one.weights for one in drawn], np.float32).reshape(-1, batch),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Sends the calls of the saved batches again."""
        for pending in self._pending:
            if isinstance(pending.latents, Future):
                pending.latents.cancel()
        self._next = int(state["next"])
        indices = np.array(state["indices"], dtype=np.int64)
        weights = np.array(state["weights"], dtype=np.float32)
        first = self._next - len(indices)
        self._pending = deque(
            self._send(first + position, Minibatch(*drawn))
            for position, drawn in enumerate(zip(indices, weights, strict=True))
        )

    def _draw_until(self, end: int) -> None:
        while self._next < min(end, self._config.critic.updates):
            minibatch = draw_batch(self._replay, self._config, self._next)
            self._pending.append(self._send(self._next, minibatch))
            self._next += 1

    def _send(self, step: int, minibatch: Minibatch) -> _Pending:
        critic = self._config.critic
        draw = Draw(
            states=self._transitions.next_states(minibatch.indices),
            candidates=critic.candidates,
            options=critic.sampling,
            seed=call_seed(self._config.seed, "online", step),
        )
        if isinstance(self._prior, Sampler):  # nothing travels to the host and back
            return _Pending(minibatch, self._prior.latents(draw))
        return _Pending(minibatch, self._prior.sample_async(draw))


class _DrawnAtOnce:
    """Prepares nothing ahead."""

    def __init__(self, config: Config, replay: PrioritisedReplay) -> None:
        """Takes batch size, candidates per update and seed from the configuration."""
        self._config, self._replay = config, replay

    def updated(self, step: int) -> None:
        """Nothing to prepare."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: draws depend on the step only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


class NoCandidates(_DrawnAtOnce):
    """Batches alone, for targets that no latent of the prior is looked at for."""

    def take(self, step: int) -> tuple[Minibatch, Tensor]:
        """The batch, and candidates (B, 0, 0)."""
        minibatch = draw_batch(self._replay, self._config, step)
        return minibatch, torch.empty(len(minibatch.indices), 0, 0)


class CachedCandidates(_DrawnAtOnce):
    """Candidates drawn once per window; every update uses a random subset of them."""

    def __init__(
        self, config: Config, cached: NDArray[np.float16], replay: PrioritisedReplay
    ) -> None:
        """Takes over a complete cache.

        Args:
            config: Batch size, candidates per update and seed.
            cached: Candidates at s_{t+H} of every window of the replay, (M, cached, Z), float16.
            replay: Where batches are drawn from.
        """
        super().__init__(config, replay)
        self._cached = torch.from_numpy(cached)

    def take(self, step: int) -> tuple[Minibatch, Tensor]:
        """Draws the batch and, for each of its windows, `candidates` of the cached latents,
        (B, n, Z).

        Which ones is drawn once for the whole batch. Cached latents of a window are independent
        draws, and independent of other windows': the j-th of two windows have nothing in common.
        """
        minibatch = draw_batch(self._replay, self._config, step)
        kept, wanted = self._cached.shape[1], self._config.critic.candidates
        rows = torch.from_numpy(minibatch.indices)
        if wanted == kept:
            return minibatch, self._cached[rows].float()
        source = generator(self._config.seed, "critic", "subset", step)
        subset = torch.randperm(kept, generator=source)[:wanted]
        return minibatch, self._cached[rows[:, None], subset].float()
