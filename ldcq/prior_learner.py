"""What the training loop steps: any prior, its optimiser and the moving average of its weights."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.config import Config
from ldcq.data.latents import LatentTable
from ldcq.data.statistics import column_mean, scale
from ldcq.goals import Hindsight
from ldcq.learning.averaging import ExponentialMovingAverage
from ldcq.learning.batches import (
    BatchSampler,
    evenly_spread,
    generator,
    moved,
    on_device,
    take,
)
from ldcq.learning.captured import Tensors
from ldcq.learning.descent import Descent
from ldcq.learning.distributed import ranks
from ldcq.nn.model import Dimensions
from ldcq.prior import Batch, Prior, Statistics
from ldcq.registry import find_prior

VALIDATION_ROWS = 4096
"""Held-out pairs that a validation looks at, spread evenly over all."""


def training_statistics(table: LatentTable) -> Statistics:
    """Statistics over the training windows, by which the prior standardises.

    Latents are z ~ q(z | tau), so their variance is that of the means plus the mean of q's own.

    Args:
        table: The latents of all windows.
    """
    rows = ~table.validation
    state, latent = column_mean(table.state, rows), column_mean(table.latent_mean, rows)
    state_variance = column_mean(table.state, rows, lambda block: np.square(block - state))
    latent_variance = column_mean(table.latent_mean, rows, lambda block: np.square(block - latent))
    latent_variance += column_mean(table.latent_std, rows, np.square)
    return Statistics(
        state_mean=state.astype(np.float32),
        state_std=scale(state, np.sqrt(state_variance)).astype(np.float32),
        latent_mean=latent.astype(np.float32),
        latent_std=scale(latent, np.sqrt(latent_variance)).astype(np.float32),
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
        DataError: All windows are held out for validation.
        ConfigError: `data.goal_indices` are no entries of a state.
    """

    def __init__(self, config: Config, table: LatentTable, device: torch.device) -> None:
        self._seed, self._ranks, self._device = config.seed, ranks(), device
        settings, self._training = config.prior, table.training
        self._sampler = BatchSampler(
            len(self._training), settings.batch_size, config.seed, "prior", "batch"
        )
        columns = (table.state, table.latent_mean, table.latent_std)
        self._columns = [on_device(column, device) for column in columns]
        self._ends, self._goals = table.next_state, None
        statistics = training_statistics(table)
        if settings.goal_conditioned:
            self._goals = Hindsight(config, table.episode)
            self._goals.check(len(statistics.state_mean))
            statistics = replace(statistics, goal_indices=tuple(self._goals.indices))
        self._validation = self._batch(evenly_spread(table.held_out, VALIDATION_ROWS), "validation")
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
        self.total = settings.epochs * self._sampler.steps_per_epoch
        self._descent = Descent(
            self._prior,
            self._metrics,
            learning_rate=settings.learning_rate,
            schedule=settings.schedule,
            total=self.total,
        )
        self._random = torch.Generator()
        self._draws: list[Callable[[int], Tensor]] | None = None

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
        whole = self._batch(self._training[self._sampler.indices(step).numpy()], step)
        count = len(whole.states)
        share = self._ranks.share(count)
        part = {name: column[share] for name, column in _columns(whole).items()}
        numbers = self._numbers(step, part, share, count)
        rate = self._descent.learning_rate
        means = self._descent.step({**part, **numbers}, len(part["states"]) / count)
        self._average.update()
        return {**means, "learning_rate": rate}

    def _metrics(self, inputs: Tensors) -> dict[str, Tensor]:
        """The prior's loss over pairs, with the random numbers beside them."""
        columns = {name: value for name, value in inputs.items() if not name.isdigit()}
        numbers = (inputs[str(index)] for index in itertools.count())
        batch = Batch(**columns, numbers=lambda _: next(numbers))
        return {"loss": self._prior.loss(batch, self._random)}

    def _numbers(self, step: int, part: Tensors, share: slice, count: int) -> dict[str, Tensor]:
        """The random numbers of a step's loss, in the order in which it asks for them.

        A loss is a function of its inputs alone, as a captured update has to be: what it draws is
        drawn before. What that is it says in a first pass, whose result is of no use.
        """
        start = generator(self._seed, "prior", "update", step).initial_seed()
        if self._draws is None:
            asked: list[Callable[[int], Tensor]] = []

            def note(draw: Callable[[int], Tensor]) -> Tensor:
                asked.append(draw)
                return moved(draw(count)[share], self._device)

            with torch.no_grad():
                self._prior.loss(Batch(**part, numbers=note), self._random.manual_seed(start))
            self._draws = asked
        self._random.manual_seed(start)
        drawn = [moved(draw(count)[share], self._device) for draw in self._draws]
        return {str(index): values for index, values in enumerate(drawn)}

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

    def _batch(self, rows: NDArray[np.int64], name: str | int) -> Batch:
        """Some windows, in order; their goals are drawn for `name`."""
        columns = [take(column, rows, self._device) for column in self._columns]
        if self._goals is not None:
            ends = self._ends[self._goals.goal_rows(rows, name)]
            goals = torch.from_numpy(ends[:, self._goals.indices])
            columns.append(moved(goals, self._device))
        return Batch(*columns)


def _columns(batch: Batch) -> dict[str, Tensor]:
    """The pairs' tensors, by the names of `Batch`."""
    goals = {} if batch.goals is None else {"goals": batch.goals}
    means = {"latent_mean": batch.latent_mean, "latent_std": batch.latent_std}
    return {"states": batch.states, **means, **goals}
