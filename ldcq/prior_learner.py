"""What the training loop steps: any prior, its optimiser and the moving average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.store import LatentStream, LatentTable
from ldcq.config import Config
from ldcq.goals import Hindsight
from ldcq.learning.averaging import ExponentialMovingAverage
from ldcq.learning.batches import BatchSampler, evenly_spread, generator
from ldcq.learning.descent import Descent
from ldcq.learning.distributed import ranks
from ldcq.nn.model import Dimensions
from ldcq.prior import Batch, Prior, Statistics
from ldcq.registry import find_prior
from services.prior.streaming import StreamedPairs, episodes_of

VALIDATION_ROWS = 4096
"""Held-out pairs that a validation looks at, spread evenly over all."""


def training_statistics(table: LatentTable) -> Statistics:
    """Statistics over the training windows, by which the prior standardises.

    Latents are z ~ q(z | tau), so their variance is that of the means plus the mean of q's own.

    Args:
        table: The latents of all windows.
    """
    rows = ~table.validation
    state, mean, std = table.state[rows], table.latent_mean[rows], table.latent_std[rows]
    latent_variance = mean.var(axis=0, dtype=np.float64) + np.mean(
        np.square(std, dtype=np.float64), axis=0
    )
    return Statistics(
        state_mean=state.mean(axis=0, dtype=np.float64).astype(np.float32),
        state_std=state.std(axis=0, dtype=np.float64).astype(np.float32),
        latent_mean=mean.mean(axis=0, dtype=np.float64).astype(np.float32),
        latent_std=np.sqrt(latent_variance).astype(np.float32),
    )


class PriorLearner:
    """Trains whichever prior the configuration names.

    Every random number of step k is a function of the seed and k, so a resumed run draws what the
    undisturbed one would have and the checkpoint needs no generator state.

    Args:
        config: The variant's configuration.
        table: The latents of all windows, in memory or on disk.
        device: Where to train.

    Raises:
        UnknownPriorError: `prior.implementation` is not registered.
        ValueError: All windows are held out for validation.
        ConfigError: `data.goal_indices` are no entries of a state.
    """

    def __init__(
        self, config: Config, table: LatentTable | LatentStream, device: torch.device
    ) -> None:
        if table.validation.all():
            raise ValueError(
                f"latents {table.version}: got no training window, expected at least 1"
                " (all are held out; lower data.validation_fraction)"
            )
        self._seed, self._ranks = config.seed, ranks()
        settings = config.prior
        held_out = evenly_spread(np.flatnonzero(table.validation), VALIDATION_ROWS)
        self._pairs: _PairsInMemory | StreamedPairs
        if isinstance(table, LatentStream):
            goals = Hindsight(config, episodes_of(table)) if settings.goal_conditioned else None
            self._pairs = StreamedPairs(table, settings.batch_size, config.seed, device, goals)
        else:
            goals = Hindsight(config, [table.episode]) if settings.goal_conditioned else None
            self._pairs = _PairsInMemory(table, settings.batch_size, config.seed, device, goals)
        statistics = self._pairs.statistics()
        if goals is not None:
            goals.check(len(statistics.state_mean))
            statistics = replace(statistics, goal_indices=tuple(goals.indices))
        self._validation = self._pairs.held_out(held_out)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(config.seed, "prior", "weights").initial_seed())
            implementation = find_prior(config.prior.implementation)
            dimensions = Dimensions(
                state=len(statistics.state_mean),
                latent=len(statistics.latent_mean),
                goal=len(statistics.goal_indices),
            )
            self._prior = implementation(dimensions, config.prior)
        self._prior.fit_normalisers(statistics)
        self._prior.to(device)
        self._average = ExponentialMovingAverage(self._prior, config.prior.ema_decay)
        self.total = settings.epochs * self._pairs.steps_per_epoch
        self._descent = Descent(
            self._prior,
            learning_rate=settings.learning_rate,
            schedule=settings.schedule,
            total=self.total,
        )

    @property
    def published(self) -> Prior:
        """The prior with averaged weights, which is what is published."""
        return self._average.module

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        """One gradient step on the prior's own objective (Eq. 5 for the diffusion prior).

        Args:
            step: Counts from 0.

        Returns:
            `loss` and `learning_rate`.
        """
        whole = self._pairs.batch(step)
        count = len(whole.states)
        share = self._ranks.share(count)
        batch = replace(_select(whole, share), share=share, whole=count)
        loss = self._prior.loss(batch, generator(self._seed, "prior", "update", step))
        metrics = self._descent.step({"loss": loss}, len(batch.states) / count)
        self._average.update()
        return metrics

    def validate(self) -> Mapping[str, Tensor | float]:
        """The averaged weights on held-out pairs, with the same noise every time."""
        if len(self._validation.states) == 0:
            return {}
        with torch.no_grad():
            return dict(
                self.published.validate(
                    self._validation, generator(self._seed, "prior", "validation")
                )
            )

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on."""
        return {
            "prior": self._prior.state_dict(),
            "average": self._average.state_dict(),
            **self._descent.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self._prior.load_state_dict(state["prior"])
        self._average.load_state_dict(state["average"])
        self._descent.load_state_dict(state)


def _select(batch: Batch, rows: Tensor | slice) -> Batch:
    goals = None if batch.goals is None else batch.goals[rows]
    return Batch(batch.states[rows], batch.latent_mean[rows], batch.latent_std[rows], goals)


class _PairsInMemory:
    """Shuffled batches of the training windows of a table in memory."""

    def __init__(
        self,
        table: LatentTable,
        batch_size: int,
        seed: int,
        device: torch.device,
        goals: Hindsight | None,
    ) -> None:
        self._table, self._device, self._goals = table, device, goals
        self._training = np.flatnonzero(~table.validation)
        self._pairs = self._rows(self._training)
        self._sampler = BatchSampler(len(self._training), batch_size, seed, "prior", "batch")
        self.steps_per_epoch = self._sampler.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """The pairs of step `step`, counted from 0, (B, ...); their goals are drawn for it."""
        indices = self._sampler.indices(step)
        pairs = _select(self._pairs, indices.to(self._device))
        return replace(pairs, goals=self._goals_of(self._training[indices.numpy()], step))

    def statistics(self) -> Statistics:
        """Over the training windows."""
        return training_statistics(self._table)

    def held_out(self, rows: NDArray[np.int64]) -> Batch:
        """Some windows, in order."""
        return replace(self._rows(rows), goals=self._goals_of(rows, "validation"))

    def _rows(self, rows: NDArray[np.int64]) -> Batch:
        columns = (self._table.state, self._table.latent_mean, self._table.latent_std)
        return Batch(*(torch.from_numpy(column[rows]).to(self._device) for column in columns))

    def _goals_of(self, rows: NDArray[np.int64], name: str | int) -> Tensor | None:
        if self._goals is None:
            return None
        ends = self._table.next_state[self._goals.goal_rows(rows, name)]
        return torch.from_numpy(ends[:, self._goals.indices]).to(self._device)
