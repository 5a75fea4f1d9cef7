"""The models that a method executes, found from the artifacts that it follows by their lineage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from common.models import model_of
from common.stages import executed_kinds
from common.store import Artifact, LineageError, Store, owning_variant
from common.store.served import served_version
from ldcq.bc import Bc
from ldcq.config import Config, resolve_variant
from ldcq.critic.critic import Critic
from ldcq.vae.frames import Frames
from ldcq.vae.low_level import LowLevelPolicy
from ldcq.vae.model import Vae
from ldcq.world_model import WorldModel


@dataclass(frozen=True)
class Models:
    """What a method executes; the prior itself stays behind its service.

    Attributes:
        decoder: pi(a | s, z); pi(a | s) for a network without latents.
        critic: Scores candidates; None for a method that does without.
        vae_version: The decoder's version; empty where it is no VAE's.
        prior_version: The prior that the candidates must come from; empty without candidates.
        served_version: What its servers call it; see `common.store.served`.
        critic_version: The critic's version; empty without one.
        goal_dim: G of the goals that the method pursues; 0 where it pursues none.
        world_model: Says where candidates lead; None for a method that does not ask.
        world_model_version: Its version; empty without one.
        bc_version: The version of a network without latents; empty where there are latents.
        frames: Compresses the images of states; None where they have none.
        frames_version: Its version; empty without one.
    """

    decoder: LowLevelPolicy
    critic: Critic | None
    vae_version: str
    prior_version: str
    served_version: str
    critic_version: str = ""
    goal_dim: int = 0
    world_model: WorldModel | None = None
    world_model_version: str = ""
    bc_version: str = ""
    frames: Frames | None = None
    frames_version: str = ""

    @property
    def parents(self) -> dict[str, str]:
        """The versions by kind."""
        kinds = ("frames", "vae", "prior", "critic", "world_model", "bc")
        versions = {kind: getattr(self, f"{kind}_version") for kind in kinds}
        return {kind: version for kind, version in versions.items() if version}

    @property
    def versions(self) -> str:
        """All versions joined, as a plan token carries them."""
        return " ".join(f"{kind}={version}" for kind, version in self.parents.items())


@dataclass(frozen=True)
class Predictor:
    """A world model p(s_{t+H} | s_t, z), and the VAE whose latents it knows."""

    model: WorldModel
    version: str
    vae_version: str


Part = Models | Predictor
"""What one of the artifacts that a method follows gives."""


def followed_artifacts(base: Config, method: str) -> tuple[tuple[str, str], ...]:
    """The artifacts from whose lineage the models of a method follow: the kind of each, and the
    variant that owns it; none for `behaviour`.
    """
    settings = base.evaluation.methods[method]
    kinds = executed_kinds(settings.policy, resolve_variant(base, settings.variant))
    return tuple((kind, owning_variant(base, settings.variant, kind)) for kind in kinds)


def method_models(base: Config, method: str, parts: Sequence[Part]) -> Models:
    """The models of a method, of what its `followed_artifacts` gave, in their order.

    Raises:
        LineageError: They do not belong together.
    """
    models, *others = parts
    assert isinstance(models, Models)
    for predictor in others:
        assert isinstance(predictor, Predictor)
        if predictor.vae_version != models.vae_version:
            raise LineageError(
                f"world_model {predictor.version} knows latents of VAE {predictor.vae_version}, "
                f"but prior {models.prior_version} samples those of VAE {models.vae_version}: "
                "train the world model again"
            )
        models = replace(models, world_model=predictor.model, world_model_version=predictor.version)
    settings = base.evaluation.methods[method]
    if settings.policy == "ldcp":
        goals = resolve_variant(base, settings.variant).data.goal_indices
        models = replace(models, goal_dim=len(goals))
    return models


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
    trained = store.load("vae", vae)
    decoder, critic = model_of(trained, Vae, device), model_of(artifact, Critic, device)
    served = served_version(prior, sampled.meta)
    models = Models(decoder, critic, vae, prior, served, artifact.version)
    return _with_frames(store, models, trained, device)


def models_of_prior(store: Store, artifact: Artifact, device: torch.device) -> Models:
    """A prior, and the VAE whose latents it samples.

    Raises:
        StoreError: The VAE cannot be loaded.
    """
    vae = _parent(artifact, "vae")
    goal_dim = artifact.meta.dimensions.get("goal", 0)
    served = served_version(artifact.version, artifact.meta)
    trained = store.load("vae", vae)
    decoder = model_of(trained, Vae, device)
    models = Models(decoder, None, vae, artifact.version, served, goal_dim=goal_dim)
    return _with_frames(store, models, trained, device)


def model_loader(store: Store, kind: str, device: torch.device) -> Callable[[Artifact], Part]:
    """What makes a part of a method's models of an artifact of `kind`."""

    def load(artifact: Artifact) -> Part:
        if kind == "critic":
            return models_of_critic(store, artifact, device)
        if kind == "prior":
            return models_of_prior(store, artifact, device)
        if kind == "bc":
            network = model_of(artifact, Bc, device)
            models = Models(network, None, "", "", "", bc_version=artifact.version)
            return _with_frames(store, models, artifact, device)
        world_model = model_of(artifact, WorldModel, device)
        return Predictor(world_model, artifact.version, _parent(artifact, "vae"))

    return load


def _with_frames(store: Store, models: Models, trained: Artifact, device: torch.device) -> Models:
    """`models`, with what compressed the images that their decoder was trained on, if there were
    any.
    """
    version = trained.meta.parents.get(Frames.kind, "")
    if not version:
        return models
    frames = model_of(store.load(Frames.kind, version), Frames, device)
    return replace(models, frames=frames, frames_version=version)


def _parent(artifact: Artifact, kind: str) -> str:
    try:
        return artifact.meta.parents[kind]
    except KeyError:
        raise LineageError(
            f"{artifact.meta.kind} {artifact.version} does not say which {kind} it was made with "
            f"(parents: {sorted(artifact.meta.parents)})"
        ) from None
