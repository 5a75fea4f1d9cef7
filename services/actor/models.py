"""The models that a method executes, found from one artifact by its lineage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from common.nn.critic import Critic
from common.nn.policy import LatentPolicy
from common.store import Artifact, LineageError, Store
from common.store.served import served_version


@dataclass(frozen=True)
class Models:
    """What a method executes; the prior itself stays behind its service.

    Attributes:
        decoder: pi(a | s, z).
        critic: Scores candidates; None for a method that takes a single sample as it comes.
        vae_version: The decoder's version.
        prior_version: The prior that the candidates must come from.
        served_version: What its servers call it; see `common.store.served`.
        critic_version: The critic's version; empty without one.
        goal_dim: G of the goals that the method pursues; 0 where it pursues none.
    """

    decoder: LatentPolicy
    critic: Critic | None
    vae_version: str
    prior_version: str
    served_version: str
    critic_version: str = ""
    goal_dim: int = 0

    @property
    def versions(self) -> str:
        """All versions joined, as a plan token carries them."""
        return f"vae={self.vae_version} prior={self.prior_version} critic={self.critic_version}"


ModelLoader = Callable[[Artifact], Models]


def source_kind(policy: str) -> str:
    """The kind of artifact from whose lineage the models of a policy follow."""
    return "critic" if policy == "ranked" else "prior"


def models_of_critic(store: Store, artifact: Artifact, device: torch.device) -> Models:
    """A critic, and the prior and the VAE that it was trained with.

    Raises:
        LineageError: Its prior was trained on the latents of another VAE than it was.
        StoreError: One of them cannot be loaded.
    """
    vae, prior = _parent(artifact, "vae"), _parent(artifact, "prior")
    sampled = store.load("prior", prior)
    prior_vae = _parent(sampled, "vae")
    if prior_vae != vae:
        raise LineageError(
            f"critic {artifact.version} scores latents of VAE {vae}, but its prior {prior} samples "
            f"those of VAE {prior_vae}: train the critic again"
        )
    critic = Critic.from_artifact(artifact, device)
    served = served_version(prior, sampled.meta)
    return Models(_decoder(store, vae, device), critic, vae, prior, served, artifact.version)


def models_of_prior(store: Store, artifact: Artifact, device: torch.device) -> Models:
    """A prior, and the VAE whose latents it samples.

    Raises:
        StoreError: The VAE cannot be loaded.
    """
    vae = _parent(artifact, "vae")
    goal_dim = artifact.meta.dimensions.get("goal", 0)
    served = served_version(artifact.version, artifact.meta)
    decoder = _decoder(store, vae, device)
    return Models(decoder, None, vae, artifact.version, served, goal_dim=goal_dim)


def model_loader(store: Store, policy: str, device: torch.device) -> ModelLoader:
    """What turns the artifact that a policy follows (see `source_kind`) into its models."""
    make = models_of_critic if policy == "ranked" else models_of_prior
    return lambda artifact: make(store, artifact, device)


def _decoder(store: Store, version: str, device: torch.device) -> LatentPolicy:
    return LatentPolicy.from_artifact(store.load("vae", version), device)


def _parent(artifact: Artifact, kind: str) -> str:
    try:
        return artifact.meta.parents[kind]
    except KeyError:
        raise LineageError(
            f"{artifact.meta.kind} {artifact.version} does not say which {kind} it was made with "
            f"(parents: {sorted(artifact.meta.parents)})"
        ) from None
