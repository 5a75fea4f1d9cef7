"""Prior servers added, killed, drained and given another model in the middle of training: no update
fails, and the critic is the one of an undisturbed run.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli.scale import scale_prior
from cli.status import overview, running_processes
from common.models import parts_of
from common.rpc.clients import PriorClient
from common.store import Store, stage_spec
from ldcq.config import Config, dump
from tests.services.prior.world import (
    SMALL_PRIOR,
    publish_latents,
    publish_vae,
    some_prior,
)

CONFIG = Config.model_validate(
    {
        "horizon": 4,
        "device": "cpu",
        "training": {"checkpoint_every": 10, "log_every": 5, "validate_every": 1000},
        "prior": SMALL_PRIOR,
        "critic": {
            "hidden": [16, 16],
            "updates": 400,
            "candidates": 64,
            "sampling": {"steps": 8},
        },
    }
)
PATIENCE = 120.0


def _publish_prior(store: Store, parents: dict[str, str], seed: int) -> str:
    origin = {
        "implementation": CONFIG.prior.implementation,
        "spec": stage_spec(CONFIG, "prior", parents),
        "parents": parents,
    }
    return store.publish(*parts_of(some_prior(CONFIG, seed), **origin), "")


class World:
    """A store with everything that a critic is trained from, and two priors to choose from."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "store")
        self.config = folder / "config.yaml"
        self.config.write_text(dump(CONFIG))
        vae = publish_vae(self.store, CONFIG)
        parents = {"vae": vae, "latents": publish_latents(self.store, CONFIG, vae)}
        self.other = _publish_prior(self.store, parents, seed=1)
        self.prior = _publish_prior(self.store, parents, seed=0)

    @contextmanager
    def training(self, replicas: int) -> Iterator[subprocess.Popen[str]]:
        """`ldcq train critic` in a process of its own."""
        command = ["train", "critic", str(self.config), "--store", str(self.store.root)]
        command += ["--replicas", str(replicas)]
        with subprocess.Popen(
            [sys.executable, "-m", "cli.main", *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.terminate()

    def step(self) -> int:
        """The last update that was logged."""
        steps = [line.partition(",")[0] for line in self.log().splitlines()[1:]]
        return max((int(step) for step in steps if step.isdigit()), default=0)

    def log(self) -> str:
        """The learner's metrics; no clock enters them."""
        path = self.store.root / "logs" / "critic" / "metrics.csv"
        return path.read_text() if path.is_file() else ""

    def priors(self) -> dict[str, dict[str, Any]]:
        """The prior servers there are, by name."""
        return {item["name"]: item for item in running_processes(self.store) if item["replica_of"]}

    def served(self) -> set[str]:
        """The model versions that the prior servers answer with."""
        versions = set()
        for item in self.priors().values():
            with PriorClient(item["address"]) as client:
                versions.add(client.describe().model_version)
        return versions


@contextmanager
def _held(pid: int) -> Iterator[None]:
    """The process stands still: what is waited for meanwhile may take its time."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the training ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(300)
@pytest.mark.xdist_group("runs")
@pytest.mark.slow
def test_replicas_that_come_and_go_change_nothing(tmp_path: Path) -> None:
    calm, world = World(tmp_path / "calm"), World(tmp_path / "disturbed")
    assert world.prior == calm.prior
    with calm.training(replicas=2) as undisturbed:
        output, _ = undisturbed.communicate(timeout=PATIENCE)
        assert undisturbed.returncode == 0, output

    root, lines = str(world.store.root), list[str]()
    with world.training(replicas=1) as training:
        reader = threading.Thread(target=lambda: lines.extend(training.stdout or ()), daemon=True)
        reader.start()

        def goes_on() -> None:
            reached = world.step()
            _until(lambda: world.step() >= reached + 10, training)

        def served_by(*names: str) -> None:
            states = dict.fromkeys(names, "serving")
            _until(lambda: {n: i["state"] for n, i in world.priors().items()} == states, training)

        goes_on()
        learner = next(i["pid"] for i in running_processes(world.store) if i["name"] == "critic")
        # Added.
        with _held(learner):
            assert "1 -> 3" in scale_prior(root, "main", 3)
            served_by("prior-0", "prior-1", "prior-2")
        goes_on()
        shown = overview(world.store)
        assert shown["stages"][0]["total"] == CONFIG.critic.updates
        assert {row["version"] for row in shown["priors"]} == {world.prior}
        assert sum(row["rows"] for row in shown["priors"]) > 0
        assert not shown["unreachable"]
        # Killed, and started again: the one that was there first.
        killed = world.priors()["prior-0"]["pid"]
        os.kill(killed, signal.SIGKILL)
        goes_on()
        with _held(learner):
            _until(lambda: world.priors()["prior-0"]["pid"] != killed, training)
            served_by("prior-0", "prior-1", "prior-2")
        # Drained.
        assert "3 -> 2" in scale_prior(root, "main", 2)
        served_by("prior-0", "prior-1")
        goes_on()
        # Given another model, whose latents the learner must not take, and then the right one.
        world.store.point("prior", world.other)
        _until(lambda: world.served() == {world.other}, training)
        world.store.point("prior", world.prior)
        goes_on()

        assert any(i["pid"] == learner for i in running_processes(world.store))
        assert training.wait(PATIENCE) == 0, "".join(lines)
        reader.join(10)
    assert "prior-0 died (SIGKILL); starting it again" in "".join(lines)
    assert world.store.current("critic") == calm.store.current("critic") is not None
    assert world.log() == calm.log()
