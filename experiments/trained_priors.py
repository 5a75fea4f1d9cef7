"""A VAE with a diffusion and a Gaussian prior over its latents, in this process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common.store import open_latents
from experiments.experiment import Context
from ldcq.config import Config, override
from ldcq.data.latents import LatentTable
from ldcq.latent_prior import Draw
from services.actor.report.prior_samples import posterior
from services.prior.model import ServedPrior, load_prior

VARIANTS = {"diffusion": "main", "gaussian": "bcq_h"}
"""A prior and the pipeline that trains it."""

Array = NDArray[Any]


@dataclass(frozen=True)
class TrainedPriors:
    """What one training seed came to."""

    config: Config  # the main pipeline's
    vae: str  # its version
    table: LatentTable
    priors: Mapping[str, ServedPrior]  # diffusion and gaussian

    def draw(self, name: str, states: Array, count: int, seed: int = 0) -> Array:
        """A prior's raw latents (N, count, Z) at raw states (N, S), sampled as the actor does."""
        draw = Draw(states, count, self.config.actor.sampling, seed)
        return self.priors[name].sampler.sample(draw).latents

    def posterior(self, rows: NDArray[np.int64], seed: int = 0) -> Array:
        """One draw of q(z | tau) for each of some windows, which priors learn to match, (N, Z)."""
        return posterior(self.table, rows, np.random.default_rng(seed))


def with_both_priors(config: Config) -> Config:
    """A configuration whose pipelines are those of `VARIANTS`."""
    return override(
        config,
        {
            "prior.implementation": "diffusion",
            "variants": {VARIANTS["gaussian"]: {"prior.implementation": "gaussian"}},
            "evaluation.methods": {"prior": {"policy": "prior"}},
        },
    )


def train_priors(context: Context, config: Config) -> TrainedPriors:
    """Trains a VAE and both priors of `with_both_priors`, as far as they are not there; raises what
    the pipeline raises.
    """
    torch.set_num_threads(config.threads)
    vae = context.pipeline.train(config, "vae")
    versions = {
        name: context.pipeline.train(config, "prior", variant) for name, variant in VARIANTS.items()
    }
    priors = {
        name: load_prior(context.store.load("prior", version), torch.device("cpu"))
        for name, version in versions.items()
    }
    return TrainedPriors(config, vae, open_latents(context.store, vae_version=vae), priors)
