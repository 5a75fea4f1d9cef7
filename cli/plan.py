"""Which processes a run consists of: pure bookkeeping, nothing is started here."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from common.config import Config
from common.store import owning_variant

MODULES = {
    "vae": "services.vae",
    "prior": "services.prior",
    "critic": "services.qlearner",
    "actor": "services.actor",
}
"""The service behind every name that the command line knows."""

TRAINERS = ("vae", "prior", "critic", "actor")
"""What a whole run trains or evaluates, in order."""


@dataclass(frozen=True)
class ProcessSpec:
    """One process of a run.

    Attributes:
        name: Unique, for messages and log files: `vae`, `prior-trainer`, `prior-0`, `critic@bcq_h`.
        command: The command line.
        address: Where it answers gRPC.
        reports: It runs a stage and reports on it through `StageService.Watch`.
        ends: It exits by itself once its stage is published.
    """

    name: str
    command: tuple[str, ...]
    address: str
    reports: bool
    ends: bool = False


class _Ports:
    """Ports that nobody listens on now, each once; the service that gets one says so if somebody
    was faster.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port: int = probe.getsockname()[1]
            if port not in self._taken:
                self._taken.add(port)
                return port


@dataclass(frozen=True)
class Planner:
    """Plans the processes of one configuration in one store.

    Attributes:
        config: The configuration, as loaded.
        config_path: A file that holds it, which the processes read.
        store: URL of the store.
        replicas: Prior servers per variant.
    """

    config: Config
    config_path: Path
    store: str
    replicas: int = 1
    _ports: _Ports = field(default_factory=_Ports, init=False, repr=False)

    def whole_run(self) -> list[ProcessSpec]:
        """Every stage of every pipeline that the configured methods need, and the servers they
        use.
        """
        return self.stages(TRAINERS, needed_variants(self.config))

    def stages(self, services: Iterable[str], variants: list[str]) -> list[ProcessSpec]:
        """The processes that train (or evaluate with) `services` for `variants`, with the prior
        servers they call.
        """
        wanted = set(services)
        servers: list[ProcessSpec] = []
        targets: dict[str, str] = {}
        if wanted & {"critic", "actor"}:
            by_owner = {
                owner: self._prior_servers(owner) for owner in self._owners("prior", variants)
            }
            servers = [server for group in by_owner.values() for server in group]
            for variant in variants:
                group = by_owner[owning_variant(self.config, variant, "prior")]
                targets[variant] = ",".join(server.address for server in group)
        prior_options = [part for item in targets.items() for part in ("--prior", "=".join(item))]

        processes: list[ProcessSpec] = []
        if "vae" in wanted:
            owners = self._owners("vae", variants)
            processes += [self._process("vae", owner, "serve", "--train") for owner in owners]
        if "prior" in wanted:
            owners = self._owners("prior", variants)
            processes += [self._process("prior", owner, "train") for owner in owners]
        processes += servers
        if "critic" in wanted:
            extra = ("--train", *prior_options)
            owners = self._owners("critic", variants)
            processes += [self._process("critic", owner, "serve", *extra) for owner in owners]
        if "actor" in wanted:
            processes.append(self._process("actor", "main", "serve", "--train", *prior_options))
        return processes

    def _owners(self, kind: str, variants: Iterable[str]) -> list[str]:
        owners = (owning_variant(self.config, variant, kind) for variant in variants)
        return list(dict.fromkeys(owners))

    def _prior_servers(self, variant: str) -> list[ProcessSpec]:
        return [
            self._process("prior", variant, "serve", replica=index)
            for index in range(self.replicas)
        ]

    def _process(
        self, service: str, variant: str, verb: str, *extra: str, replica: int | None = None
    ) -> ProcessSpec:
        role = "prior-trainer" if verb == "train" else service
        name = role if replica is None else f"{role}-{replica}"
        address = f"127.0.0.1:{self._ports.take()}"
        command = (
            *(sys.executable, "-m", MODULES[service], verb, "--config", str(self.config_path)),
            *("--store", self.store, "--variant", variant, "--listen", address, *extra),
            "--end-with-input",
        )
        return ProcessSpec(
            name=name if variant == "main" else f"{name}@{variant}",
            command=command,
            address=address,
            reports=replica is None,
            ends=verb == "train",
        )


def needed_variants(config: Config) -> list[str]:
    """The pipelines that the configured methods take their models from, the main one first."""
    methods = config.evaluation.methods.values()
    used = {method.variant for method in methods if method.policy != "behaviour"}
    return ["main", *(variant for variant in config.variants if variant in used)]
