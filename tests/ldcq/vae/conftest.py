"""Windows of small real data, and the configuration of a VAE that fits them."""

from __future__ import annotations

import pytest

from ldcq.config import Config, override
from ldcq.data.windows import Windows, make_windows
from tests.ldcq.vae.synthetic import HORIZON, make_episodes


@pytest.fixture(params=["continuous", "discrete"])
def windows(request: pytest.FixtureRequest) -> Windows:
    """Windows of continuous and of discrete episodes."""
    return make_windows(make_episodes(request.param == "discrete"), HORIZON, 0.2, 0)


@pytest.fixture
def config() -> Config:
    """A VAE that trains in a second or two."""
    return override(
        Config(),
        {
            "seed": 3,
            "device": "cpu",
            "horizon": HORIZON,
            "discount": 0.9,
            "data.dataset": "tests/synthetic-v0",
            "data.validation_fraction": 0.2,
            "vae": {
                "encoder": "mlp",
                "latent_dim": 4,
                "hidden": 32,
                "decoder_hidden": 32,
                "min_std": 0.05,
                "decoded_steps": 3,
                "learning_rate": 3e-3,
                "schedule": "one_cycle",
                "batch_size": 32,
                "epochs": 4,
            },
        },
    )
