"""The one table of stages, and the policies that execute what they make.

Planner, launcher, lineage, status, report and experiments read it: a further stage is one row here
and one module. Imports nothing of the project but the configuration; modules are named, so that no
service is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ldcq.config import Config


@dataclass(frozen=True)
class Stage:
    """One kind of artifact, and the process that makes it.

    Attributes:
        kind: Of the artifact, in the store and wherever the stage is named.
        title: What a reader calls it.
        about: What it is for, as the report says it.
        parents: The kinds it is made from; `ancestors` adds theirs.
        sections: The paths of the configuration that decide a result beyond its parents. Absent on
            purpose: names and variants, `training` (cadence of checkpoints, logs, validation), and
            `data.generate` and `data.download`, which decide how the data come here: what was
            recorded is in the dataset's fingerprint, a parent. `data.reward` counts where rewards
            are looked at; what decides windows of it, for all over the data (`store.lineage`).
        module: The package of the process; its `train` makes the artifact.
        made_by: The stage whose process makes it, where it has none of its own.
        serves: What the module's `server` answers to, as `ldcq serve` calls it; "actor" stands for
            ActorService.
        replicated: Any number of processes serve it, apart from the one that makes it.
        calls_prior: Its process calls the prior service.
        large: It holds rows, in a folder apart, and is checked by whoever opens it.
        optional: It is there only where the configuration has the section of its name.
    """

    kind: str
    title: str
    about: str = ""
    parents: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    module: str = ""
    made_by: str = ""
    serves: str = ""
    replicated: bool = False
    calls_prior: bool = False
    large: bool = False
    optional: bool = False

    @property
    def ends(self) -> bool:
        """The process ends when it has published; else it goes on to serve."""
        return self.replicated or not self.serves

    @property
    def process(self) -> str:
        """The name of the process that makes it: that of what it goes on to serve, if it does."""
        return f"{self.kind}-trainer" if self.replicated else self.serves or self.kind

    def command(self, variant: str = "main") -> str:
        """What makes it, for people."""
        option = "" if variant == "main" else f" --variant {variant}"
        return f"`ldcq train {self.made_by or self.kind} CONFIG{option}`"


_LEARNING = ("seed", "device", "threads")
_DATA = ("data.dataset", "data.observation_keys", "data.validation_fraction")
_ROWS = (
    Stage(
        "frames",
        "Frames",
        "images as vectors, which the later stages learn from",
        sections=(*_LEARNING, *_DATA, "frames"),
        module="services.vae.frames",
        optional=True,
    ),
    Stage(
        "vae",
        "VAE",
        "latents of H-step windows, and the policy that decodes them",
        parents=("frames",),
        sections=(*_LEARNING, *_DATA, "horizon", "vae"),
        module="services.vae",
        serves="vae",
    ),
    Stage(
        "latents",
        "Latents",
        parents=("vae",),
        sections=("horizon", "lengths", "discount", "data.reward"),
        made_by="vae",
        large=True,
    ),
    Stage(
        "prior",
        "Prior",
        "which latents a state supports",
        parents=("latents",),
        sections=(*_LEARNING, "prior"),
        module="services.prior",
        serves="prior",
        replicated=True,
    ),
    Stage(
        "candidates",
        "Candidates",
        parents=("latents", "prior"),
        sections=(
            "seed",
            "critic.windows",
            "critic.reward_windows",
            "critic.cached_candidates",
            "critic.sampling",
        ),
        made_by="critic",
        large=True,
    ),
    Stage(
        "critic",
        "Critic",
        "what a latent is worth",
        parents=("latents", "prior"),
        sections=(*_LEARNING, "discount", "lengths", "critic"),
        module="services.qlearner",
        serves="critic",
        calls_prior=True,
    ),
    Stage(
        "world_model",
        "World model",
        "where a latent leads",
        parents=("latents",),
        sections=(*_LEARNING, "world_model"),
        module="services.qlearner.world_model",
    ),
    Stage(
        "bc",
        "Behaviour cloning",
        "a network without latents",
        parents=("frames",),
        sections=(*_LEARNING, *_DATA, "bc"),
        module="services.vae.bc",
    ),
    Stage(
        "evaluation",
        "Evaluation",
        parents=("vae", "prior", "critic", "world_model", "bc"),
        sections=("actor", "evaluation"),
        module="services.actor",
        serves="actor",
        calls_prior=True,
    ),
)

STAGES: Mapping[str, Stage] = {stage.kind: stage for stage in _ROWS}
"""All stages by kind, each after its parents."""

TRAINED = tuple(stage.kind for stage in _ROWS if stage.module and stage.kind != "evaluation")
"""The stages that learn, each in a process of its own."""

_POLICIES: Mapping[str, tuple[str, ...]] = {
    "ldcq": ("critic",),
    "bcq_h": ("critic",),
    "ldgc": ("prior",),
    "ldcp": ("prior", "world_model"),
    "bc": ("bc",),
    "prior": ("prior",),
    "behaviour": (),
}
"""The policies of `evaluation.methods`, with the artifacts that each executes in any case."""


def ancestors(kind: str, config: Config) -> tuple[str, ...]:
    """All kinds that one is made from in a pipeline of this configuration of its own, each after
    its own parents.
    """
    parents = STAGES[kind].parents
    there = [p for p in parents if not STAGES[p].optional or getattr(config, p) is not None]
    return _with_ancestors(there, config)


def executed_kinds(policy: str, config: Config) -> tuple[str, ...]:
    """The artifacts that a policy of a pipeline with this configuration of its own executes. The
    lineage of these names all others that it needs.
    """
    executed = _POLICIES[policy]
    asked = config.actor.needs_world_model and "critic" in executed
    return (*executed, "world_model") if asked else executed


def needed_kinds(policy: str, config: Config) -> tuple[str, ...]:
    """All artifacts that a policy descends from, each after its parents; see `executed_kinds`."""
    return _with_ancestors(executed_kinds(policy, config), config)


def needed_stages(policy: str, config: Config) -> tuple[str, ...]:
    """The stages whose processes a policy needs, in order; see `executed_kinds`."""
    return tuple(kind for kind in needed_kinds(policy, config) if STAGES[kind].module)


def _with_ancestors(kinds: Iterable[str], config: Config) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for kind in kinds for each in (*ancestors(kind, config), kind)))
