"""A toy stage with everything a real one has: Adam, dropout, averages, priorities, generators.

As a program, `python toy.py FOLDER STEP...` trains in a store of its own, in one process after the
other: each is killed when it has begun its STEP, the last one runs to the end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.rpc.stage import Progress
from common.store import digest
from common.training import Checkpoints, configure_torch, train
from ldcq.config import Config, TrainingConfig, load, override
from ldcq.learning.averaging import ExponentialMovingAverage
from ldcq.learning.batches import BatchSampler
from ldcq.learning.descent import learning_rate_schedule

TOTAL = 60
CONFIG = TrainingConfig(checkpoint_every=7, keep_checkpoints=2, log_every=3, validate_every=10)


def toy_config() -> Config:
    return override(load("demo"), {"seed": 3, "device": "cpu"})


class ToyLearner:
    """Regresses a fixed function; batches are drawn by priority, as in prioritised replay."""

    def __init__(self) -> None:
        configure_torch(toy_config())
        self.network = nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.2), nn.ReLU(), nn.Linear(16, 1))
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=1e-2)
        self.schedule = learning_rate_schedule(self.optimiser, "one_cycle", TOTAL)
        self.average = ExponentialMovingAverage(self.network, 0.9)
        self.noise = torch.Generator().manual_seed(5)
        self.draws = np.random.default_rng(6)
        self.inputs = torch.randn(50, 3, generator=torch.Generator().manual_seed(7))
        self.priorities = np.ones(50)
        self.sampler = BatchSampler(50, 4, 8, "toy")

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        chances = self.priorities / self.priorities.sum()
        drawn = torch.from_numpy(self.draws.choice(50, 4, p=chances))
        chosen = torch.cat([drawn, self.sampler.indices(step)])
        inputs = self.inputs[chosen]
        target = inputs.sum(1, keepdim=True) + 0.1 * torch.randn(8, 1, generator=self.noise)
        error = self.network(inputs) - target
        loss = error.square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.schedule.step()
        self.average.update()
        self.priorities[chosen.numpy()] = error.detach().abs().squeeze(1).double().numpy() + 1e-3
        return {"loss": loss.detach(), "learning_rate": self.schedule.get_last_lr()[0]}

    def validate(self) -> Mapping[str, Tensor | float]:
        with torch.no_grad():
            error = self.average.module(self.inputs) - self.inputs.sum(1, keepdim=True)
        return {"loss": error.square().mean()}

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "average": self.average.state_dict(),
            "noise": self.noise.get_state(),
            "draws": self.draws.bit_generator.state,
            "priorities": self.priorities,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.average.load_state_dict(state["average"])
        self.noise.set_state(state["noise"])
        self.draws.bit_generator.state = state["draws"]
        self.priorities = state["priorities"]

    def fingerprint(self) -> str:
        """A digest of all weights, bit by bit."""
        tensors = [*self.network.state_dict().values(), *self.average.state_dict().values()]
        return digest([tensor.numpy().tobytes().hex() for tensor in tensors])


def checkpoints(root: Path) -> Checkpoints:
    return Checkpoints(root, "toy", {"toy": 1}, CONFIG.keep_checkpoints)


def run_toy(
    root: Path, learner: ToyLearner | None = None, stop: threading.Event | None = None
) -> str:
    learner = learner or ToyLearner()
    train(
        learner,
        stage="toy",
        total=TOTAL,
        checkpoints=checkpoints(root),
        progress=Progress("toy"),
        config=CONFIG,
        logs=root / "logs" / "toy",
        stop=stop,
    )
    return learner.fingerprint()


class Announcing(ToyLearner):
    """Says every step that it begins, and kills its process at one of them: a signal from outside
    would come some steps later on a busy machine.
    """

    def __init__(self, pipe: int, kill_at: int | None) -> None:
        super().__init__()
        self.pipe, self.kill_at = pipe, kill_at

    def update(self, step: int) -> Mapping[str, Tensor | float]:
        os.write(self.pipe, bytes([step]))
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update(step)


def run_and_kill(root: Path, kill_at: int | None) -> list[int]:
    """Trains in a process of its own, killed with SIGKILL at a step; returns the steps it began."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        print(run_toy(root, Announcing(writer, kill_at)), flush=True)
        os._exit(0)
    os.close(writer)
    steps = []
    while step := os.read(reader, 1):
        steps.append(step[0])
    _, status = os.waitpid(child, 0)
    os.close(reader)
    assert status == (0 if kill_at is None else signal.SIGKILL)
    return steps


if __name__ == "__main__":
    # Forked, since importing all of torch (the first optimiser does) takes longer than training.
    ToyLearner()
    for kill_at in [*map(int, sys.argv[2:]), None]:
        print(*run_and_kill(Path(sys.argv[1]), kill_at), flush=True)
