"""Asks metrics endpoints for their numbers, all at once, and what these amount to;
docs/deployment.md has the metrics' names.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from common.rpc.channel import check

TIMEOUT = 2.0
"""Seconds an endpoint has to answer."""
INTERVAL = 1.0
"""Seconds between the two looks at a prior server that give its rows/s."""
PRIORITIES = ("actor", "learner")

_SECONDS = "ldcq_prior_sample_seconds_bucket"
_THREADS = 32
_OPENER = build_opener(ProxyHandler({}))  # what is asked is on this machine, or beside it


@dataclass(frozen=True)
class Readings:
    """The numbers of one process, as JSON has them."""

    stages: list[dict[str, Any]]  # that it runs, one as a rule
    prior: dict[str, Any] | None  # of the prior it serves
    actor: dict[str, Any] | None  # of the episodes it has played


@dataclass(frozen=True)
class Scrape:
    """What one endpoint said."""

    time: float  # on this process's monotonic clock
    samples: Sequence[Sample]

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The values of a metric by one of its labels, where the others named are as given."""
        return {sample.labels[label]: sample.value for sample in self._all(name, labels)}

    def value(self, name: str, **labels: str) -> float | None:
        """The first value of a metric with these labels, if there is one."""
        return next((sample.value for sample in self._all(name, labels)), None)

    def _all(self, name: str, labels: Mapping[str, str]) -> Iterator[Sample]:
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample


def resolve(targets: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """The endpoints behind `HOST:PORT` targets; a host with several addresses has replicas.

    Returns:
        What to call the process at each address, and for targets without one why.

    Raises:
        TargetError: A target is no address.
    """
    for target in targets:
        check(target)
    hosts = Counter(target.rpartition(":")[0] for target in targets)
    with ThreadPoolExecutor(_THREADS) as threads:
        answers = list(threads.map(_look_up, targets))
    endpoints, unknown = {}, {}
    for target, found in zip(targets, answers, strict=True):
        host, _, port = target.rpartition(":")
        if isinstance(found, str):
            unknown[target] = found
            continue
        name = host if hosts[host] == 1 else target
        for address in found:
            shown = name if len(found) == 1 else f"{name} {address}"
            endpoints[f"{address}:{port}"] = shown
    return endpoints, unknown


def collect(addresses: Iterable[str]) -> tuple[dict[str, Readings], dict[str, str]]:
    """Asks all endpoints; the prior servers twice, for their rate.

    Returns:
        The figures by address, and for the other addresses why there are none.
    """
    first, silent = _scrape(addresses)
    # One that only trains a prior has no queue, and answers no `Sample`.
    priors = [at for at, said in first.items() if said.value("ldcq_prior_capacity_rows")]
    if priors:
        time.sleep(INTERVAL)
    second, _ = _scrape(priors)
    found = {}
    for address, said in first.items():
        prior = _prior(said, second.get(address)) if address in priors else None
        found[address] = Readings(_stages(said), prior, _actor(said))
    return found, silent


def _scrape(addresses: Iterable[str]) -> tuple[dict[str, Scrape], dict[str, str]]:
    """The answers by address, and for the other addresses why there is none."""
    asked = list(dict.fromkeys(addresses))
    with ThreadPoolExecutor(_THREADS) as threads:
        heard = dict(zip(asked, threads.map(_ask, asked), strict=True))
    answers = {address: said for address, said in heard.items() if isinstance(said, Scrape)}
    return answers, {address: said for address, said in heard.items() if isinstance(said, str)}


def _ask(address: str) -> Scrape | str:
    try:
        with _OPENER.open(f"http://{address}/metrics", timeout=TIMEOUT) as answer:
            text = answer.read().decode()
        families = list(text_string_to_metric_families(text))
    except URLError as error:
        cause = error.reason
        return (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    except (OSError, HTTPException, ValueError) as error:
        return f"no metrics there ({error or type(error).__name__})"
    samples = [sample for family in families for sample in family.samples]
    return Scrape(time.monotonic(), samples)


def _look_up(target: str) -> list[str] | str:
    host, _, port = target.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        return "unknown host"
    four = {str(name[0]) for family, _, _, _, name in found if family == socket.AF_INET}
    six = {f"[{name[0]}]" for family, _, _, _, name in found if family == socket.AF_INET6}
    return sorted(four or six)  # one protocol: both lead to the same servers


def _stages(said: Scrape) -> list[dict[str, Any]]:
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


def _prior(first: Scrape, second: Scrape | None) -> dict[str, Any]:
    """What a prior server has done and has to do, at a first look and, if it answered, a later one;
    all but the rate and what waits is of its whole life.
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


def _actor(said: Scrape) -> dict[str, Any] | None:
    """Episodes, their mean return, and the share with success where their environment says it, by
    method; None where none was played.
    """
    known = {"mean_return": "ldcq_actor_episode_return", "success": "ldcq_actor_episode_success"}
    methods: dict[str, Any] = {}
    for name, metric in known.items():
        sums = said.by("method", f"{metric}_sum")
        for method, count in said.by("method", f"{metric}_count").items():
            if count:
                row = methods.setdefault(method, {"episodes": int(count)})
                row[name] = sums[method] / count
    return {"methods": methods} if methods else None


def _rate(name: str, first: Scrape, second: Scrape | None) -> float | None:
    """Per second between two looks; None where the process was started again between them."""
    before, after = first.value(name), second.value(name) if second else None
    if second is None or before is None or after is None or after < before:
        return None
    return (after - before) / (second.time - first.time)


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """A quantile of a histogram, as `histogram_quantile` of Prometheus estimates it.

    Args:
        q: Between 0 and 1.
        buckets: How many observations were at most each bound (positive, the last infinite).

    Returns:
        Interpolated inside the bucket it falls into, whose observations are taken to be spread
        evenly; in the last bucket, the highest finite bound. None without observations.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    rank = q * buckets[bounds[-1]]
    lower, below = 0.0, 0.0
    for bound in bounds[:-1]:
        if buckets[bound] >= rank:
            share = (rank - below) / (buckets[bound] - below) if buckets[bound] > below else 0.0
            return lower + (bound - lower) * share
        lower, below = bound, buckets[bound]
    return lower
