"""Asks metrics endpoints for their numbers, all at once."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from common.rpc.channel import check

TIMEOUT = 2.0
"""Seconds an endpoint has to answer."""

_THREADS = 32
_OPENER = build_opener(ProxyHandler({}))  # what is asked is on this machine, or beside it


@dataclass(frozen=True)
class Endpoint:
    """Where a process serves its metrics.

    Attributes:
        process: Its name, for people.
        address: `host:port`.
    """

    process: str
    address: str


@dataclass(frozen=True)
class Scrape:
    """What one endpoint said.

    Attributes:
        time: When, on this process's monotonic clock.
        samples: All of it.
    """

    time: float
    samples: Sequence[Sample]

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The values of a metric by one of its labels, where the others named are as given."""
        return {
            sample.labels[label]: sample.value
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        }

    def value(self, name: str, **labels: str) -> float | None:
        """The first value of a metric with these labels, if there is one."""
        for sample in self.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
        return None


def scrape(addresses: Iterable[str]) -> tuple[dict[str, Scrape], dict[str, str]]:
    """Asks every address once.

    Returns:
        The answers by address, and for the other addresses why there is none.
    """
    asked = list(dict.fromkeys(addresses))
    with ThreadPoolExecutor(_THREADS) as threads:
        heard = dict(zip(asked, threads.map(_ask, asked), strict=True))
    answers = {address: said for address, said in heard.items() if isinstance(said, Scrape)}
    return answers, {address: said for address, said in heard.items() if isinstance(said, str)}


def resolve(targets: Sequence[str]) -> tuple[list[Endpoint], dict[str, str]]:
    """The endpoints behind `HOST:PORT` targets; a host with several addresses has replicas.

    Returns:
        The endpoints, and for targets without one why.

    Raises:
        TargetError: A target is no address.
    """
    for target in targets:
        check(target)
    hosts = Counter(target.rpartition(":")[0] for target in targets)
    with ThreadPoolExecutor(_THREADS) as threads:
        answers = list(threads.map(_look_up, targets))
    endpoints, unknown = [], {}
    for target, found in zip(targets, answers, strict=True):
        host, _, port = target.rpartition(":")
        if isinstance(found, str):
            unknown[target] = found
            continue
        name = host if hosts[host] == 1 else target
        for address in found:
            shown = name if len(found) == 1 else f"{name} {address}"
            endpoints.append(Endpoint(shown, f"{address}:{port}"))
    return endpoints, unknown


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
