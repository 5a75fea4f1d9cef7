"""What the training loop steps: any prior, its optimiser and the moving average of its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import Config
from common.store import LatentStream, LatentTable
from common.training import (
    BatchSampler,
    ExponentialMovingAverage,
    generator,
    learning_rate_schedule,
    ranks,
)
from services.prior.protocol import Batch, Prior, Statistics, find_prior
from services.prior.streaming import StreamedPairs

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
        held_out = _spread(np.flatnonzero(table.validation), VALIDATION_ROWS)
        self._pairs: _PairsInMemory | StreamedPairs
        if isinstance(table, LatentStream):
            streamed = StreamedPairs(table, settings.batch_size, config.seed, device)
            statistics, self._pairs = streamed.statistics(), streamed
            self._validation = streamed.held_out(held_out)
        else:
            statistics = training_statistics(table)
            self._pairs = _PairsInMemory(table, settings.batch_size, config.seed, device)
            self._validation = _batch(table, held_out, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(config.seed, "prior", "weights").initial_seed())
            implementation = find_prior(config.prior.implementation)
            self._prior = implementation.create(config.prior, statistics)
        self._prior.to(device)
        self._average = ExponentialMovingAverage(self._prior, config.prior.ema_decay)
        self.total = settings.epochs * self._pairs.steps_per_epoch
        # The fused kernel: the network is many small tensors, and a loop over them would show.
        self._optimiser = torch.optim.Adam(
            self._prior.parameters(), lr=settings.learning_rate, fused=True
        )
        self._schedule = learning_rate_schedule(self._optimiser, settings.schedule, self.total)

    @property
    def state_dim(self) -> int:
        """S."""
        return self._validation.states.shape[1]

    @property
    def latent_dim(self) -> int:
        """Z."""
        return self._validation.latent_mean.shape[1]

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
        # What is averaged over a share, weighted by it, adds up to the average over the batch.
        weight = len(batch.states) / count
        loss = weight * self._prior.loss(batch, generator(self._seed, "prior", "update", step))
        learning_rate = float(self._optimiser.param_groups[0]["lr"])
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        (whole_loss,) = self._ranks.sum_gradients(self._prior.parameters(), loss)
        self._optimiser.step()
        self._schedule.step()
        self._average.update()
        return {"loss": whole_loss.detach(), "learning_rate": learning_rate}

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
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state_dict` returned."""
        self._prior.load_state_dict(state["prior"])
        self._average.load_state_dict(state["average"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])


def _batch(table: LatentTable, rows: NDArray[np.int64], device: torch.device) -> Batch:
    columns = (table.state, table.latent_mean, table.latent_std)
    state, mean, std = (torch.from_numpy(column[rows]).to(device) for column in columns)
    return Batch(state, mean, std)


def _select(batch: Batch, rows: Tensor | slice) -> Batch:
    return Batch(batch.states[rows], batch.latent_mean[rows], batch.latent_std[rows])


class _PairsInMemory:
    """Shuffled batches of the training windows of a table in memory."""

    def __init__(
        self,
        table: LatentTable,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        training = np.flatnonzero(~table.validation)
        self._pairs = _batch(table, training, device)
        self._sampler = BatchSampler(len(training), batch_size, seed, "prior", "batch")
        self.steps_per_epoch = self._sampler.steps_per_epoch

    def batch(self, step: int) -> Batch:
        """The pairs of step `step`, counted from 0, (B, ...)."""
        return _select(self._pairs, self._sampler.indices(step).to(self._pairs.states.device))


def _spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the rows, evenly spread."""
    if len(rows) <= count:
        return rows
    chosen: NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    return chosen
