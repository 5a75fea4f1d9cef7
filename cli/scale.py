"""`ldcq scale`: changes the number of prior servers of the run that is active on a store."""

from __future__ import annotations

import time
from pathlib import Path

from cli import record
from cli.record import WantedReplicas
from cli.supervisor import DRAIN_GRACE, RunError
from common.store import local_root
from ldcq.config import load, resolve_variant

PATIENCE = DRAIN_GRACE + 10.0
"""Seconds until a run that does not follow is given up; a call under way ends within less."""


def scale_prior(store_url: str, variant: str, count: int, patience: float = PATIENCE) -> str:
    """Changes the number of prior servers of a variant, and waits up to `patience` seconds until
    that many run.

    Returns:
        What was done, for the user.

    Raises:
        RunError: No run is active on the store, it has no prior servers for `variant`, or it does
            not follow.
    """
    folder = local_root(store_url) / "run"
    if not any(record.is_running(process) for process in record.read(folder)):
        raise RunError(f"{store_url}: no run is active; start one with `ldcq run CONFIG`")
    wanted = WantedReplicas(folder)
    before = wanted.get(variant)
    if before is None:
        known = ", ".join(wanted.variants()) or "none"
        raise RunError(
            f"--variant {variant}: the run in {store_url} has no prior servers for it, expected "
            f"one of: {known}"
        )
    wanted.set(variant, count)
    deadline = time.monotonic() + patience
    while (running := _replicas(folder, variant, store_url)) != count:
        latest = wanted.get(variant)
        if latest != count:
            raise RunError(f"{variant}: {latest} prior servers are wanted meanwhile")
        if time.monotonic() > deadline:
            raise RunError(
                f"{variant}: {running} prior servers after {patience:g} s, expected {count}; "
                f"`ldcq status --store {store_url}` shows them"
            )
        time.sleep(0.1)
    flight = resolve_variant(load(folder / "config.yaml"), variant).critic.calls_in_flight
    idle = f"; a critic keeps {flight} of them busy (critic.calls_in_flight)"
    return f"prior servers of {variant}: {before} -> {count}{idle if count > flight else ''}"


def _replicas(folder: Path, variant: str, store_url: str) -> int:
    processes = record.read(folder)
    if not processes:
        raise RunError(f"{store_url}: the run has ended")
    return sum(process["replica_of"] == variant for process in processes)
