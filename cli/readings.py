"""What the metrics of a run's processes amount to; docs/deployment.md has the metrics' names."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cli.scraping import Scrape, quantile, scrape

INTERVAL = 1.0
"""Seconds between the two looks at a prior server that give its rows/s."""

PRIORITIES = ("actor", "learner")
_SECONDS = "ldcq_prior_sample_seconds_bucket"


@dataclass(frozen=True)
class Readings:
    """The numbers of one process, as JSON has them.

    Attributes:
        stages: Of the stages it runs, one as a rule.
        prior: Of the prior it serves, if it does.
        actor: Of the episodes it has played, if it has.
    """

    stages: list[dict[str, Any]]
    prior: dict[str, Any] | None
    actor: dict[str, Any] | None


def collect(addresses: Iterable[str]) -> tuple[dict[str, Readings], dict[str, str]]:
    """Asks all endpoints; the prior servers twice, for their rate.

    Returns:
        The figures by address, and for the other addresses why there are none.
    """
    first, silent = scrape(addresses)
    priors = [address for address, said in first.items() if is_prior_server(said)]
    if priors:
        time.sleep(INTERVAL)
    second, _ = scrape(priors)
    found = {
        address: Readings(
            stages(said),
            prior(said, second.get(address)) if address in priors else None,
            actor(said),
        )
        for address, said in first.items()
    }
    return found, silent


def stages(said: Scrape) -> list[dict[str, Any]]:
    """State, step, rate and last metrics of every stage of a process."""
    rows = []
    for stage in said.by("stage", "ldcq_stage_state"):
        states = said.by("state", "ldcq_stage_state", stage=stage)
        rows.append(
            {
                "stage": stage,
                "state": next((name for name, is_in in states.items() if is_in), "starting"),
                "step": int(said.value("ldcq_stage_step", stage=stage) or 0),
                "total": int(said.value("ldcq_stage_target_steps", stage=stage) or 0),
                "rate": said.value("ldcq_stage_steps_per_second", stage=stage) or 0.0,
                "metrics": said.by("metric", "ldcq_stage_metric", stage=stage),
            }
        )
    return rows


def is_prior_server(said: Scrape) -> bool:
    """Whether a process answers `Sample`; one that only trains a prior has no queue."""
    return bool(said.value("ldcq_prior_capacity_rows"))


def prior(first: Scrape, second: Scrape | None) -> dict[str, Any]:
    """What a prior server has done and has to do.

    Args:
        first: The first look; all but the rate and what waits is of the server's whole life.
        second: A later one, if there was an answer.
    """
    last = second or first
    versions = [name for name, is_served in last.by("version", "ldcq_prior_model_info").items()]
    times = {
        priority: last.by("le", _SECONDS, stage="total", priority=priority)
        for priority in PRIORITIES
    }
    return {
        "state": "serving" if versions else "waiting",
        "version": versions[0] if versions else "",
        "rows": int(last.value("ldcq_prior_rows_total") or 0),
        "rows_per_second": _rate("ldcq_prior_rows_total", first, second),
        "pending_rows": int(last.value("ldcq_prior_pending_rows") or 0),
        "capacity_rows": int(last.value("ldcq_prior_capacity_rows") or 0),
        "p95_seconds": {
            priority: quantile(0.95, {float(bound): n for bound, n in buckets.items()})
            for priority, buckets in times.items()
        },
        "rejections": {
            reason: int(count)
            for reason, count in last.by("reason", "ldcq_prior_rejections_total").items()
        },
    }


def actor(said: Scrape) -> dict[str, Any] | None:
    """Episodes and their mean return by method; None where none was played."""
    sums = said.by("method", "ldcq_actor_episode_return_sum")
    counts = said.by("method", "ldcq_actor_episode_return_count")
    methods = {
        method: {"episodes": int(count), "mean_return": sums[method] / count}
        for method, count in counts.items()
        if count
    }
    return {"methods": methods} if methods else None


def _rate(name: str, first: Scrape, second: Scrape | None) -> float | None:
    """Per second between two looks; None where the process was started again between them."""
    before, after = first.value(name), second.value(name) if second else None
    if second is None or before is None or after is None or after < before:
        return None
    return (after - before) / (second.time - first.time)
