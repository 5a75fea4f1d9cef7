"""Dashboards and alerts, against a real Prometheus that watches a real (tiny) run."""

from __future__ import annotations

import json
import math
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
import yaml

from common.rpc.codec import encode
from common.store import Store
from ldcq.config import dump, load
from ldcq.v1 import actor_pb2, actor_pb2_grpc
from services.actor.metrics import SUCCESSES
from tests.command import TINY, ldcq

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "observability"
DASHBOARDS = sorted((FOLDER / "grafana" / "dashboards").glob("*.json"))
QUERIES = [
    pytest.param(target["expr"], id=f"{path.stem}: {panel['title']} {target['refId']}")
    for path in DASHBOARDS
    for panel in json.loads(path.read_text())["panels"]
    for target in panel["targets"]
]
PATIENCE = 300.0
WINDOW = "20s"  # what Grafana would put for $__rate_interval, at this test's scrape interval


def needs(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{program} is not installed (Debian: apt install prometheus)")
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def compose(file: Path) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load(file.read_text())["services"]
    return services


def test_the_dashboards_are_those_of_the_list() -> None:
    files = runpy.run_path(str(FOLDER / "dashboards.py"))["files"]()
    assert {path: path.read_text() for path in DASHBOARDS} == files
    assert [path.stem for path in DASHBOARDS] == ["acting", "learning", "sampling"]


def test_a_panel_shows_the_success_of_every_method() -> None:
    panels = json.loads((FOLDER / "grafana" / "dashboards" / "acting.json").read_text())["panels"]
    (success,) = (panel for panel in panels if panel["title"] == "Success")
    assert success["fieldConfig"]["defaults"]["unit"] == "percentunit"
    (target,) = success["targets"]
    counted = SUCCESSES._name
    assert target["expr"] == (
        f"sum by (method) ({counted}_sum) / sum by (method) ({counted}_count)"
    )


def test_every_service_that_serves_metrics_is_scraped() -> None:
    found = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"][0]
    (names,) = found["dns_sd_configs"]
    services = compose(FOLDER.parents[1] / "docker-compose.yml")
    serving = {
        name
        for name, service in services.items()
        if f"--metrics-port {names['port']}" in service["command"]
    }
    assert set(names["names"]) == serving
    # `ldcq status` in the actor's container asks the same.
    asked = services["actor"]["environment"]["LDCQ_METRICS"].split()
    assert asked == [f"{name}:{names['port']}" for name in names["names"]]


def test_grafana_finds_what_is_mounted() -> None:
    mounted = {
        target: (FOLDER / source).resolve()
        for service in compose(FOLDER / "docker-compose.yml").values()
        for source, target, *_ in (volume.split(":") for volume in service["volumes"])
    }
    assert mounted["/var/lib/grafana/dashboards"] == DASHBOARDS[0].parent
    provisioning = mounted["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "ldcq.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] in mounted
    panels = [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]
    assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
    for name in ("prometheus.yml", "alerts.yml"):
        assert mounted[f"/etc/prometheus/{name}"] == FOLDER / name


def test_promtool_accepts_the_rules_and_their_tests_pass() -> None:
    promtool = needs("promtool")
    for command in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "alerts.yml"),
        ("test", "rules", "alerts.test.yml"),
    ):
        done = subprocess.run(
            [promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"][0]["rules"]
    tested = yaml.safe_load((FOLDER / "alerts.test.yml").read_text())["tests"]
    assert {rule["alert"] for rule in alerts} == {
        case["alertname"] for test in tested for case in test["alert_rule_test"]
    }


class Watched:
    """The processes of a tiny run, each with metrics, and a Prometheus that scrapes them."""

    def __init__(self, folder: Path) -> None:
        self.store, self.config = Store(folder / "store"), folder / "config.yaml"
        changes = ["variants={}", "evaluation.methods={ldcq: {policy: ldcq}}"]
        self.config.write_text(dump(load(str(TINY), changes)))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.targets: list[dict[str, Any]] = []
        self.folder = folder

    def service(self, name: str, module: str, *arguments: str) -> str:
        """Starts one as Compose would; its address."""
        address, metrics = f"127.0.0.1:{free_port()}", free_port()
        common = ("--config", str(self.config), "--store", str(self.store.root))
        ports = ("--listen", address, "--metrics-port", str(metrics))
        self.start(name, sys.executable, "-m", f"services.{module}", *arguments, *common, *ports)
        self.targets.append({"targets": [f"127.0.0.1:{metrics}"], "labels": {"service": name}})
        return address

    def start(self, name: str, *command: str) -> None:
        log = (self.folder / f"{name}-{len(self.processes)}.log").open("wb")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def prometheus(self) -> None:
        """The configuration that ships, but for where the targets are."""
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (scraped,) = config["scrape_configs"]
        del scraped["dns_sd_configs"], scraped["relabel_configs"]
        scraped["static_configs"] = self.targets
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        shutil.copy(FOLDER / "alerts.yml", self.folder)
        self.url = f"127.0.0.1:{free_port()}"
        self.start(
            "prometheus",
            needs("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
            f"--web.listen-address={self.url}",
        )

    def get(self, path: str, **parameters: object) -> Any:
        with urlopen(f"http://{self.url}/api/v1/{path}?{urlencode(parameters)}") as reply:
            return json.load(reply)["data"]

    def until(self, what: str, there: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not there():
            logs = "\n".join(path.read_text()[-500:] for path in self.folder.glob("*.log"))
            assert time.monotonic() < deadline, f"no {what}\n{logs}"
            time.sleep(0.2)

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(60)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A run that has ended, with everything it was asked to count."""
    needs("prometheus")
    run = Watched(tmp_path_factory.mktemp("watched"))
    run.began = time.time()  # type: ignore[attr-defined]
    ldcq("data", "ensure", run.config, "--store", run.store.root)
    try:
        replicas = [run.service("prior", "prior", "serve") for _ in range(2)]
        priors = ("--prior", ",".join(replicas))
        run.service("vae", "vae", "serve", "--train")
        run.service("prior-trainer", "prior", "train")
        run.service("qlearner", "qlearner", "serve", "--train", *priors)
        actor = run.service("actor", "actor", "serve", "--train", *priors)
        run.prometheus()
        run.until("evaluation", lambda: run.store.current("evaluation"))
        for _ in range(4):  # seen to grow between two scrapes
            act(actor)
            time.sleep(1.5)
        yield run
    finally:
        run.stop()


def act(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = actor_pb2_grpc.ActorServiceStub(channel)
        described = stub.Describe(actor_pb2.ActorServiceDescribeRequest(), timeout=30)
        states = encode(np.zeros((1, described.state_dim), np.float32))
        stub.Act(actor_pb2.ActorServiceActRequest(states=states), timeout=30)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("observability")
@pytest.mark.parametrize("query", QUERIES)
def test_every_panel_shows_something(watched: Watched, query: str) -> None:
    found = watched.get(
        "query_range",
        query=query.replace("$__rate_interval", WINDOW),
        start=watched.began,  # type: ignore[attr-defined]
        end=time.time(),
        step="1s",
    )["result"]
    values = [float(value) for series in found for _, value in series["values"]]
    assert any(math.isfinite(value) for value in values), query


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("observability")
def test_the_rules_are_evaluated_and_nothing_is_wrong(watched: Watched) -> None:
    (group,) = watched.get("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}
    firing = {rule["name"] for rule in group["rules"] if rule["state"] == "firing"}
    assert firing <= {"PriorSlowForActors"}  # a loaded machine may be slow
    for service, replicas in {"prior": 2, "qlearner": 1, "actor": 1, "vae": 1}.items():
        up = watched.get("query", query=f'sum(up{{service="{service}"}})')["result"]
        assert float(up[0]["value"][1]) == replicas


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.xdist_group("observability")
def test_both_replicas_were_called(watched: Watched) -> None:
    query = "sum by (instance) (ldcq_prior_rows_total)"
    rows = watched.get("query", query=query)["result"]
    assert len(rows) == 2
    assert all(float(row["value"][1]) > 0 for row in rows)
