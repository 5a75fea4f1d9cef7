"""The containers on a real engine: up, scaled, broken, swapped. Run by `make test-compose`.

The tests are one story on one stack, in the order they are written in. An engine 20.10 will do.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from ldcq.config import dump, load
from tests.command import TINY
from tests.stack import ROOT, Stack, engine

FOREIGN = "examples/foreign-prior/docker-compose.yml"
PROJECT = f"ldcq-test-{os.getpid()}"
REPLICAS = 4
UPDATES = 8000
CHANGES = [
    "variants={}",
    "evaluation.methods={ldcq: {policy: ldcq}}",
    "evaluation.report=true",
    # Long enough that everything can happen to it while it trains.
    f"critic.updates={UPDATES}",
    "critic.candidates=16",
    "training.checkpoint_every=500",
]

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(3000),
    pytest.mark.xdist_group("stack"),
]


def metric(container: Any, name: str) -> float:
    """The sum of a metric of a container, over its labels; 0 while it does not answer."""
    container.reload()
    addresses = container.attrs["NetworkSettings"]["Networks"].values()
    for address in (network["IPAddress"] for network in addresses):
        try:
            with urlopen(f"http://{address}:9090/metrics", timeout=5) as reply:
                text = reply.read().decode()
        except (URLError, OSError):
            continue
        values = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, values))
    return 0.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    client = engine()
    config = ROOT / "configs" / f"{PROJECT}.yaml"
    config.write_text(dump(load(str(TINY), CHANGES)))
    config.chmod(0o644)
    made = Stack(client, PROJECT, f"configs/{config.name}")
    try:
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout=5", files=(FOREIGN,))
        config.unlink()


@pytest.fixture(scope="module")
def broken(stack: Stack) -> str:
    """The critic of a run that everything happened to while it trained."""
    stack.compose("build")
    stack.compose("up", "--detach")
    (learner,) = stack.until("learner", lambda: stack.containers("qlearner"))
    updates = "ldcq_stage_updates_total"
    stack.until("first updates", lambda: metric(learner, updates) > 0)

    stack.compose("up", "--detach", "--no-recreate", "--scale", f"prior={REPLICAS}")
    replicas = stack.containers("prior")
    assert len(replicas) == REPLICAS
    stack.until(
        "calls to every replica",
        lambda: all(metric(replica, "ldcq_prior_rows_total") > 0 for replica in replicas),
    )
    assert not stack.current("critic"), "the critic was there before anything could happen to it"

    killed, paused, cut, _ = replicas
    killed.kill()
    paused.pause()
    stack.network().disconnect(cut, force=True)
    time.sleep(10)
    paused.unpause()
    stack.network().connect(cut, aliases=["prior"])
    assert not stack.current("critic"), "the critic was there before anything could happen to it"
    before = metric(learner, updates)
    stack.until("updates after all that", lambda: metric(learner, updates) > before)
    version: str = stack.until("critic", lambda: stack.current("critic"))
    return version


def test_the_stack_ends_with_scores_and_everything_healthy(stack: Stack, broken: str) -> None:
    assert broken
    stack.until("evaluation", lambda: stack.current("evaluation"))
    stack.until("health", lambda: stack.healthy("vae", "qlearner", "actor"))
    for service in ("data", "prior-trainer"):
        (container,) = stack.containers(service, running=False)
        assert container.attrs["State"]["ExitCode"] == 0
    # After the evaluation comes the report, and then this line.
    stack.until("scores", lambda: "ldcq: return" in stack.compose("logs", "actor"))
    report = json.loads(stack.store("cat", "/store/report.json"))
    assert "ldcq" in json.dumps(report)
    (learner,) = stack.containers("qlearner")
    assert learner.attrs["RestartCount"] == 0


def test_undisturbed_it_is_the_same_critic(stack: Stack, broken: str) -> None:
    stack.compose("stop", "qlearner", "actor")
    kept = "/store/artifacts/critic /store/checkpoints/critic /store/logs/critic"
    stack.store("rm", "-rf", *kept.split(), "/store/artifacts/evaluation")
    assert not stack.current("critic")
    stack.compose("up", "--detach", "--scale", "prior=1")
    assert stack.until("critic", lambda: stack.current("critic")) == broken


def test_a_foreign_prior_takes_the_place_of_ours_and_of_nothing_else(stack: Stack) -> None:
    files, settings = (FOREIGN,), {"PRIOR_IMPLEMENTATION": "neighbours"}
    (ROOT / stack.config).write_text(dump(load(str(TINY), [*CHANGES, "critic.updates=300"])))
    vae, own = stack.current("vae"), stack.current("prior")
    (container,) = stack.containers("vae")
    stack.compose("build", "prior", files=files)
    scaled = ("--scale", "prior=2")
    stack.compose("up", "--detach", *scaled, files=files, **settings)
    other = stack.until("foreign prior", lambda: (now := stack.current("prior")) != own and now)
    meta = json.loads(stack.store("cat", f"/store/artifacts/prior/{other}/meta.json"))
    assert (meta["implementation"], meta["parents"]["vae"]) == ("neighbours", vae)

    def parent(kind: str) -> str:
        path = f"/store/artifacts/{kind}/{stack.current(kind)}/meta.json"
        return str(json.loads(stack.store("cat", path) or "{}").get("parents", {}).get("prior"))

    stack.until("critic on it", lambda: parent("critic") == other)
    stack.until("evaluation with it", lambda: parent("evaluation") == other)
    assert stack.containers("vae") == [container]
    for replica in stack.containers("prior"):
        code, output = replica.exec_run(["python", "-c", "import torch"])
        assert code != 0, output
