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
from common.store import LatentTable
from common.training import (
    BatchSampler,
    ExponentialMovingAverage,
    generator,
    learning_rate_schedule,
    ranks,
)
from services.prior.protocol import Batch, Prior, Statistics, find_prior

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
        table: The latents of all windows.
        device: Where to train.

    Raises:
        UnknownPriorError: `prior.implementation` is not registered.
        ValueError: All windows are held out for validation.
    """

    def __init__(self, config: Config, table: LatentTable, device: torch.device) -> None:
        training = np.flatnonzero(~table.validation)
        if len(training) == 0:
            raise ValueError(
                f"latents {table.version}: got no training window, expected at least 1"
                " (all are held out; lower data.validation_fraction)"
            )
        self._seed, self._ranks = config.seed, ranks()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator(config.seed, "prior", "weights").initial_seed())
            implementation = find_prior(config.prior.implementation)
            self._prior = implementation.create(config.prior, training_statistics(table))
        self._prior.to(device)
        self._average = ExponentialMovingAverage(self._prior, config.prior.ema_decay)
        self._training = _batch(table, training, device)
        held_out = np.flatnonzero(table.validation)
        self._validation = _batch(table, _spread(held_out, VALIDATION_ROWS), device)
        settings = config.prior
        self._sampler = BatchSampler(
            len(training), settings.batch_size, config.seed, "prior", "batch"
        )
        self.total = settings.epochs * self._sampler.steps_per_epoch
        # The fused kernel: the network is many small tensors, and a loop over them would show.
        self._optimiser = torch.optim.Adam(
            self._prior.parameters(), lr=settings.learning_rate, fused=True
        )
        self._schedule = learning_rate_schedule(self._optimiser, settings.schedule, self.total)

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
        rows = self._sampler.indices(step)
        share = self._ranks.share(len(rows))
        batch = replace(_select(self._training, rows[share]), share=share, whole=len(rows))
        # What is averaged over a share, weighted by it, adds up to the average over the batch.
        weight = len(rows[share]) / len(rows)
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


def _select(batch: Batch, rows: Tensor) -> Batch:
    rows = rows.to(batch.states.device)
    return Batch(batch.states[rows], batch.latent_mean[rows], batch.latent_std[rows])


def _spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the rows, evenly spread."""
    if len(rows) <= count:
        return rows
    chosen: NDArray[np.int64] = rows[np.linspace(0, len(rows) - 1, count).astype(np.int64)]
    return chosen
