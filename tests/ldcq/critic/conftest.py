"""A small problem, and prior services in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from ldcq.config import Config, CriticConfig
from ldcq.critic.critic import Critic
from ldcq.data.latents import LatentTable
from ldcq.nn.model import Dimensions
from ldcq.nn.normaliser import Normaliser
from tests.numpy_prior import LATENT_DIM, STATE_DIM


class PriorProcess:
    """A replica of the NumPy prior."""

    def __init__(self, version: str = "p1", address: str = "127.0.0.1:0", delay: float = 0) -> None:
        options = ("--version", version, "--listen", address, "--delay", str(delay))
        command = [sys.executable, "-m", "tests.numpy_prior", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def kill(self) -> None:
        """As `kill -9`."""
        self.process.kill()
        self.process.wait()


StartPrior = Callable[..., PriorProcess]


@pytest.fixture
def start_prior() -> Iterator[StartPrior]:
    started: list[PriorProcess] = []

    def start(*arguments: object, **options: object) -> PriorProcess:
        started.append(PriorProcess(*arguments, **options))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture(scope="session")
def prior_target() -> Iterator[str]:
    """A replica that lives for all tests; version p1."""
    prior = PriorProcess()
    yield prior.address
    prior.kill()


@pytest.fixture
def make_config() -> Callable[..., Config]:
    """A small configuration; keywords override keys of its critic section."""

    def make(seed: int = 0, **critic: object) -> Config:
        section = {
            "hidden": (16, 8),
            "batch_size": 8,
            "updates": 12,
            "candidates": 4,
            "cached_candidates": 6,
            "calls_in_flight": 3,
            "target_update_rate": 0.1,
        }
        return Config.model_validate(
            {
                "seed": seed,
                "device": "cpu",
                "training": {"checkpoint_every": 5, "log_every": 5, "validate_every": 5},
                "critic": section | critic,
            }
        )

    return make


@pytest.fixture
def table() -> LatentTable:
    """40 random windows, every fifth kept for validation."""
    rng = np.random.default_rng(0)
    rows = 40

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return LatentTable(
        state=normal(rows, STATE_DIM),
        latent_mean=normal(rows, LATENT_DIM),
        latent_std=np.abs(normal(rows, LATENT_DIM)),
        reward=normal(rows),
        discount=np.where(np.arange(rows) % 7 == 6, 0, 0.9).astype(np.float32),
        next_state=normal(rows, STATE_DIM),
        episode=np.arange(rows) // 5,
        step=np.arange(rows) % 5,
        validation=np.arange(rows) % 5 == 0,
    )


@pytest.fixture(
    params=[{}, {"fourier_features": 6}, {"dueling": True}], ids=["", "sines", "dueling"]
)
def critic(request: pytest.FixtureRequest) -> Critic:
    """Random and small, over states of 3 entries and latents of 5; rewards were scaled by 1/4."""
    torch.manual_seed(0)
    config = CriticConfig(hidden=(16, 12, 8), reward_scale=0.25, **request.param)
    built = Critic(Dimensions(state=3, latent=5), config)
    built.state_normaliser = Normaliser(
        torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.5, 3.0])
    )
    built.latent_normaliser = Normaliser(torch.randn(5), torch.rand(5) + 0.5)
    with torch.no_grad():  # LayerNorms of fresh networks are all alike: make them count.
        for parameter in built.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        if built.config.dueling:
            built.spread.fill_(0.7)
    return built
