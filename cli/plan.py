"""Which processes a run consists of: pure bookkeeping, nothing is started here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.rpc.settings import IN_PROCESS
from common.stages import STAGES, TRAINED, Stage, ancestors, needed_stages
from common.store import owning_variant
from ldcq.config import Config, MethodConfig, resolve_variant

MOST_REPLICAS = 16
"""Prior servers that a variant has addresses for."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process of a run."""

    name: str  # unique: `vae`, `prior-trainer`, `prior-0`, `critic@bcq_h`
    module: str  # what `python -m` runs
    arguments: tuple[str, ...]  # its command line
    address: str  # where it answers gRPC
    reports: bool  # it runs a stage, and says how far it is through `StageService.Watch`
    ends: bool = False  # it exits by itself once its stage is published


@dataclass(frozen=True)
class ReplicaGroup:
    """The prior servers of one variant, whose number may change while a run goes on.

    Who calls them is told every place once, taken or not, and finds out by itself which of them
    answer.
    """

    variant: str
    places: tuple[ProcessSpec, ...]  # the processes there may be
    count: int  # how many are started at first

    @property
    def target(self) -> str:
        """All places, as `common.rpc.channel.connect` takes them."""
        return ",".join(place.address for place in self.places)


@dataclass(frozen=True)
class Plan:
    """The processes of a run."""

    processes: tuple[ProcessSpec, ...]  # started once, in order
    replicas: tuple[ReplicaGroup, ...] = ()  # the prior servers they call, started before them

    def goals(self) -> list[str]:
        """The processes that run a stage."""
        return [spec.name for spec in self.processes if spec.reports]


@dataclass(frozen=True)
class Planner:
    """Plans the processes of one configuration in one store."""

    config: Config
    config_path: Path  # a file that holds it, which the processes read
    metrics: Path  # a folder where each process says in a file where it serves its metrics
    store: str  # its URL
    sockets: Path
    """An empty folder with a short path, where all processes listen. A port found free could be
    taken before its process listens there; a file of the run's own cannot."""
    replicas: int = 1
    """Prior servers per variant at first, at most `MOST_REPLICAS`; 0: none, whoever draws loads the
    prior itself."""

    def whole_run(self) -> Plan:
        """Every stage that the configured methods need, the evaluation, and the servers they
        call.
        """
        return self.stages({**needed_variants(self.config), "evaluation": ["main"]})

    def stages(self, wanted: Mapping[str, Sequence[str]]) -> Plan:
        """The processes that train (or evaluate), with the prior servers they call.

        Args:
            wanted: Stages, each with the variants to train it for; `evaluation` plays all methods.
        """
        # An evaluation calls the priors of all variants that its methods are of.
        callers = {**wanted, "evaluation": needed_variants(self.config)["prior"]}
        calling = [
            variant for kind in wanted if STAGES[kind].calls_prior for variant in callers[kind]
        ]
        owners = self._owners("prior", calling)
        served = owners if self.replicas else []
        groups = {owner: self._replicas(number, owner) for number, owner in enumerate(served)}
        prior_options: list[str] = []
        # An owner calls too, where only variants that share its stages are wanted.
        for variant in dict.fromkeys([*calling, *owners]):
            group = groups.get(owning_variant(self.config, variant, "prior"))
            target = IN_PROCESS if group is None else group.target
            prior_options += ["--prior", f"{variant}={target}"]
        processes = [
            self._process(number, stage, owner, *(prior_options if stage.calls_prior else ()))
            for kind, stage in STAGES.items()
            for number, owner in enumerate(self._owners(kind, wanted.get(kind, ())))
        ]
        return Plan(tuple(processes), tuple(groups.values()))

    def _owners(self, kind: str, variants: Iterable[str]) -> list[str]:
        owners = (owning_variant(self.config, variant, kind) for variant in variants)
        return list(dict.fromkeys(owners))

    def _replicas(self, number: int, variant: str) -> ReplicaGroup:
        places = []
        for replica in range(MOST_REPLICAS):
            address = f"unix:{self.sockets}/{number}-{replica}"
            full_name = _full_name(f"prior-{replica}", variant)
            stage = STAGES["prior"]
            arguments = self._arguments(full_name, variant, "serve", address, "--as-configured")
            places.append(ProcessSpec(full_name, stage.module, arguments, address, reports=False))
        return ReplicaGroup(variant, tuple(places), self.replicas)

    def _process(self, number: int, stage: Stage, variant: str, *extra: str) -> ProcessSpec:
        address = f"unix:{self.sockets}/{stage.process}-{number}"
        name = _full_name(stage.process, variant)
        action, options = ("train", ()) if stage.ends else ("serve", ("--train",))
        arguments = self._arguments(name, variant, action, address, *options, *extra)
        return ProcessSpec(name, stage.module, arguments, address, reports=True, ends=stage.ends)

    def _arguments(
        self, name: str, variant: str, action: str, address: str, *extra: str
    ) -> tuple[str, ...]:
        return (
            *(action, "--config", str(self.config_path)),
            *("--store", self.store, "--variant", variant, "--listen", address, *extra),
            *("--metrics-port", "0", "--metrics-targets", str(self.metrics / f"{name}.json")),
            "--end-with-input",
        )


def _full_name(name: str, variant: str) -> str:
    return name if variant == "main" else f"{name}@{variant}"


def needed_variants(config: Config) -> dict[str, list[str]]:
    """What the configured methods are made of; LDCQ where none is to be scored.

    Returns:
        Every stage but the evaluation, with the variants that a method takes it from, the main one
        first.
    """
    methods = [*config.evaluation.methods.values()] or [MethodConfig(policy="ldcq")]
    needed: dict[str, list[str]] = {kind: [] for kind in TRAINED}
    for variant in ("main", *config.variants):
        own = resolve_variant(config, variant)
        policies = {method.policy for method in methods if method.variant == variant}
        for kind in {kind for policy in policies for kind in needed_stages(policy, own)}:
            needed[kind].append(variant)
    if not any(needed.values()):
        for kind in (*ancestors("vae", config), "vae"):  # whose stages make and read the dataset
            needed[kind].append("main")
    return needed
