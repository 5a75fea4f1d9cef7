"""The status of a run: real servers, real metrics endpoints, and what is shown of them."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary
from typer.testing import CliRunner

from cli import record
from cli.certificates import environment, issue
from cli.main import app
from cli.readings import quantile, resolve
from cli.status import overview
from common.rpc import metrics_targets, stage
from common.rpc.channel import TargetError
from common.rpc.security import Security
from common.rpc.server import Server
from common.rpc.stage import Progress, StageServicer
from common.store import Store
from ldcq.v1 import stage_pb2_grpc

VERSION = "0123456789abcdef"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store")
    (store.root / "run").mkdir()
    return store


@pytest.fixture
def expose() -> Iterator[Callable[[CollectorRegistry], str]]:
    """Serves a registry as a process does its metrics: `expose(registry) -> address`."""
    with ExitStack() as stack:

        def serve(registry: CollectorRegistry) -> str:
            server, _ = prometheus_client.start_http_server(0, "127.0.0.1", registry)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return f"127.0.0.1:{server.server_port}"

        yield serve


def _prior_metrics() -> CollectorRegistry:
    """A prior server's, under the names of its own."""
    registry = CollectorRegistry()
    seconds = Histogram(
        "ldcq_prior_sample_seconds",
        "",
        ["stage", "priority"],
        buckets=(0.1, 0.3, 1),
        registry=registry,
    )
    for value in (0.05, 0.05, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2):
        seconds.labels("total", "actor").observe(value)
        seconds.labels("queue", "actor").observe(5.0)
    Counter("ldcq_prior_rows_total", "", registry=registry).inc(123_456)
    Gauge("ldcq_prior_pending_rows", "", registry=registry).set(2_048)
    Gauge("ldcq_prior_capacity_rows", "", registry=registry).set(1_048_576)
    info = Gauge("ldcq_prior_model_info", "", ["version"], registry=registry)
    info.labels(VERSION).set(1)
    dropped = Counter("ldcq_prior_rejections_total", "", ["reason"], registry=registry)
    dropped.labels("queue_full").inc(3)
    dropped.labels("deadline").inc(0)
    return registry


def _critic_metrics() -> CollectorRegistry:
    registry = CollectorRegistry()
    state = Gauge("ldcq_stage_state", "", ["stage", "state"], registry=registry)
    state.labels("critic", "waiting").set(0)
    state.labels("critic", "running").set(1)
    for name, value in (
        ("ldcq_stage_step", 1500),
        ("ldcq_stage_target_steps", 2000),
        ("ldcq_stage_steps_per_second", 42.5),
    ):
        Gauge(name, "", ["stage"], registry=registry).labels("critic").set(value)
    metric = Gauge("ldcq_stage_metric", "", ["stage", "metric"], registry=registry)
    for name, value in (("loss", 0.25), ("q_mean", 39.3), ("td_error", 1.5)):
        metric.labels("critic", name).set(value)
    return registry


def _actor_metrics() -> CollectorRegistry:
    registry = CollectorRegistry()
    returns = Summary("ldcq_actor_episode_return", "", ["method"], registry=registry)
    for value in (1.0, 2.0, 6.0):
        returns.labels("ldcq").observe(value)
    returns.labels("bcq_h")  # no episode yet
    success = Summary("ldcq_actor_episode_success", "", ["method"], registry=registry)
    for value in (0, 1, 1):
        success.labels("ldcq").observe(value)
    return registry


def _record(store: Store, *processes: dict[str, Any]) -> None:
    """Processes of a local run, all of them this one."""
    common = {"pid": os.getpid(), "reports": False, "replica_of": None, "draining": False}
    record.write(store.root / "run", [{**common, **process} for process in processes])


@pytest.fixture(autouse=True)
def _this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LDCQ_METRICS", raising=False)
    monkeypatch.setattr("cli.readings.INTERVAL", 0.05)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Serves the progress of a stage: `serve(progress, **options) -> address`."""
    with ExitStack() as stack:

        def start(progress: Progress, **options: Any) -> str:
            server = Server(linger=0.0, **options)
            add = stage_pb2_grpc.add_StageServiceServicer_to_server
            server.add(add, StageServicer(progress), stage.FULL_NAME)
            address = server.start()
            stack.callback(server.drain, 0)
            return address

        yield start


@pytest.mark.parametrize(
    ("q", "buckets", "expected"),
    [
        # 10 observations: 2 up to 0.1, 8 more up to 0.3. The 9.5th is 7.5 of 8 into the second.
        (0.95, {0.1: 2, 0.3: 10, 1.0: 10, math.inf: 10}, 0.1 + 0.2 * 7.5 / 8),
        (0.1, {0.1: 2, 0.3: 10, 1.0: 10, math.inf: 10}, 0.05),  # the first begins at 0
        (0.95, {0.1: 2, 0.3: 3, math.inf: 10}, 0.3),  # beyond all bounds: the highest
        (0.95, {0.1: 0, 0.3: 0, math.inf: 0}, None),
        (0.95, {}, None),
    ],
)
def test_a_quantile_is_what_prometheus_says(
    q: float, buckets: dict[float, float], expected: float | None
) -> None:
    found = quantile(q, buckets)
    assert found is None if expected is None else found == pytest.approx(expected)


def test_the_numbers_of_processes_of_which_only_the_metrics_are_known(
    store: Store, expose: Callable[[CollectorRegistry], str]
) -> None:
    prior, critic, actor = map(expose, (_prior_metrics(), _critic_metrics(), _actor_metrics()))
    empty = expose(CollectorRegistry())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        options = [critic, prior, actor, empty, nobody, "no-such-host.invalid:9090"]
        found = overview(store, options)

    assert found["stages"] == [
        {
            "process": critic,
            "stage": "critic",
            "state": "running",
            "step": 1500,
            "total": 2000,
            "rate": 42.5,
            "metrics": {"loss": 0.25, "q_mean": 39.3, "td_error": 1.5},
        },
        {"process": empty, "state": "up"},
    ]
    (server,) = found["priors"]
    assert server.pop("p95_seconds") == {"actor": pytest.approx(0.2875), "learner": None}
    assert server == {
        "process": prior,
        "state": "serving",
        "version": VERSION,
        "rows": 123_456,
        "rows_per_second": 0.0,
        "pending_rows": 2_048,
        "capacity_rows": 1_048_576,
        "rejections": {"queue_full": 3, "deadline": 0},
    }
    assert found["actors"] == [
        {
            "process": actor,
            "methods": {"ldcq": {"episodes": 3, "mean_return": 3.0, "success": 2 / 3}},
        }
    ]
    assert found["unreachable"] == {
        nobody: "Connection refused",
        "no-such-host.invalid:9090": "unknown host",
    }
    json.dumps(found)


def test_the_rate_of_a_prior_server_is_that_of_the_moment(
    store: Store, expose: Callable[[CollectorRegistry], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = _prior_metrics()
    rows: Any = registry._names_to_collectors["ldcq_prior_rows_total"]
    monkeypatch.setattr("cli.readings.time.sleep", lambda _: rows.inc(1000))
    (server,) = overview(store, [expose(registry)])["priors"]
    assert server["rows"] == 124_456
    assert server["rows_per_second"] > 0


def test_a_host_with_several_addresses_has_replicas(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"prior": ["10.0.0.3", "10.0.0.2"], "actor": ["10.0.0.4"]}

    def look_up(host: str, port: str, **_: object) -> list[Any]:
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        return [(*stream, (address, int(port))) for address in known[host] * 2]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    found, unknown = resolve(["prior:9090", "actor:9090"])
    assert found == {
        "10.0.0.2:9090": "prior 10.0.0.2",
        "10.0.0.3:9090": "prior 10.0.0.3",
        "10.0.0.4:9090": "actor",
    }
    assert not unknown
    with pytest.raises(TargetError, match="expected HOST:PORT"):
        resolve(["prior"])


def test_a_local_run_is_found_by_itself_and_shown_at_a_glance(
    store: Store,
    expose: Callable[[CollectorRegistry], str],
    serve: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metrics = record.metrics_folder(store.root / "run")
    progress, waiting = Progress("critic"), Progress("evaluation")
    variant = Progress("prior")
    progress.running(1500, 2000, {"loss": 0.25, "q_mean": 39.3, "td_error": 1.5})
    variant.running(12345, 67890, {"loss": -1.23456e-05})
    waiting.waiting("waiting for critic of main")
    _record(
        store,
        {"name": "prior-0", "address": "127.0.0.1:1", "replica_of": "main", "draining": True},
        {"name": "critic", "address": serve(progress), "reports": True},
        {"name": "actor", "address": serve(waiting), "reports": True},
        {"name": "prior-trainer@bcq_h", "address": serve(variant), "reports": True},
        {"name": "prior-trainer", "address": "127.0.0.1:1", "reports": True, "pid": 0},
    )
    metrics_targets.announce(metrics / "prior-0.json", expose(_prior_metrics()))
    metrics_targets.announce(metrics / "actor.json", expose(_actor_metrics()))
    metrics_targets.announce(metrics / "prior-trainer.json", "127.0.0.1:1")  # it was killed

    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LDCQ_METRICS", expose(_critic_metrics()))
    shown = CliRunner().invoke(app, ["status", "--store", str(store.root)])
    assert shown.exit_code == 0, shown.output
    lines = {line.split()[0]: line.split() for line in shown.stdout.splitlines() if line.strip()}
    assert lines["critic"] == ["critic", "running", "1500/2000", "0", "0.25", "39.3", "1.5"]
    assert lines["prior-trainer"] == ["prior-trainer", "ended"]
    assert lines["prior-trainer@bcq_h"][1:] == ["running", "12345/67890", "0", "-1.23e-05"]
    assert lines["prior-0"] == [
        *("prior-0", "draining", "01234567", "123k", "0", "2.05k/1.05M", "288", "|", "-", "3")
    ]
    for part in (
        "actor: mean return ldcq 3 (success 67%, 3 episodes)\n",
        "actor: waiting for critic of main\n",
        "(critic)  running",  # the one of the environment, whose name does not say it
    ):
        assert part in shown.stdout
    _, *tables = shown.stdout.splitlines()
    assert max(map(len, tables)) <= 80

    shown = CliRunner().invoke(app, ["status", "--store", str(store.root), "--json"])
    found = json.loads(shown.stdout)
    assert found["stages"][0]["metrics"] == {"loss": 0.25, "q_mean": 39.3, "td_error": 1.5}
    assert found["priors"][0]["p95_seconds"]["actor"] == pytest.approx(0.2875)
    assert found["processes"][0]["metrics"] == metrics_targets.addresses(metrics)["prior-0"]
    assert found["unreachable"] == {}


def test_a_server_that_refuses_says_what_it_wants(
    store: Store, serve: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(tmp_path / "tls")
    issue(tmp_path / "other")
    full = Security.from_environment(environment(tmp_path / "tls"))
    token_only = Security(token_file=full.token_file)
    progress = Progress("vae")
    progress.running(1, 2)
    address = serve(progress, security=token_only)
    prior = f"unix:{tmp_path}/prior"
    serve(progress, security=full, address=prior)
    vae: dict[str, Any] = {"name": "vae", "address": address, "reports": True}
    server: dict[str, Any] = {"name": "prior-0", "address": prior, "replica_of": "main"}
    _record(store, vae, server, {"name": "bc", "address": "127.0.0.1:1", "reports": True})

    def states() -> dict[str, str]:
        found = overview(store)
        return {row["process"]: row["state"] for row in (*found["stages"], *found["priors"])}

    without = states()
    assert without["vae"] == "refused: set LDCQ_TOKEN_FILE"
    assert without["prior-0"].startswith("refused: the server hung up at once: it may want TLS")
    assert without["bc"] == "starting"
    _record(store, vae)

    monkeypatch.setenv("LDCQ_TOKEN_FILE", str(tmp_path / "other" / "token"))
    assert states()["vae"] == "refused: its token is not in LDCQ_TOKEN_FILE"
    shown = CliRunner().invoke(app, ["status", "--store", str(store.root)]).stdout
    assert "vae: refused: its token is not in LDCQ_TOKEN_FILE\n" in shown

    monkeypatch.setenv("LDCQ_TOKEN_FILE", str(full.token_file))
    assert states()["vae"] == "running"
    _record(store, server)
    for name, value in environment(tmp_path / "tls").items():
        monkeypatch.setenv(name, value)
    assert states()["prior-0"] == "serving"
