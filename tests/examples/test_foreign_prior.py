"""The example of a prior that shares nothing with this project but the contract."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import services.actor.train
import services.prior.train
import services.qlearner.train
import services.vae.train
from common.rpc.clients import PriorClient
from common.rpc.conformance import check_prior
from common.rpc.errors import FailedPreconditionError
from common.rpc.stage import Progress
from common.store import Store
from common.training.context import StageContext
from ldcq.config import Config, override
from tests.draws import draw
from tests.services.actor.conftest import CONFIG
from tests.services.prior.world import LATENT, publish_latents, publish_vae, small_config

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "foreign-prior"
METHODS = {"ldcq": {"policy": "ldcq"}, "prior": {"policy": "prior"}}

StartServer = Callable[[Store], str]


@pytest.fixture
def start() -> Iterator[StartServer]:
    """Starts the example's server over a store; the address it listens on."""
    processes = []

    def start_server(store: Store) -> str:
        command = [sys.executable, "server.py", "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(
            [*command, "--store", str(store.root)],
            cwd=EXAMPLE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process.stdout.readline().removeprefix("listening on ").strip()

    yield start_server
    for process in processes:
        process.terminate()
    for process in processes:
        assert process.wait(20) == 0


def context(config: Config, store: Store, target: str = "") -> StageContext:
    targets = {"main": target} if target else {}
    return StageContext(config, store, Progress("stage"), prior_targets=targets)


def test_it_imports_nothing_of_this_project() -> None:
    tree = ast.parse((EXAMPLE / "server.py").read_text())
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    roots = {name.partition(".")[0] for name in imported} - set(sys.stdlib_module_names)
    assert roots == {"grpc", "grpc_health", "numpy", "zarr", "ldcq"}
    assert {name for name in imported if name.startswith("ldcq")} == {"ldcq.v1"}


def test_it_keeps_the_contract_and_draws_from_the_latents(
    start: StartServer, tmp_path: Path
) -> None:
    store, config = Store(tmp_path), small_config()
    address = start(store)
    publish_latents(store, config, publish_vae(store, config), rows=4000)
    with PriorClient(address) as client:
        described = client.wait_ready(lambda _: None, context(config, store).stop)
        assert described.vae_version == store.current("vae")
        states = np.full((1, described.state_dim), 4.0, np.float32)
        latents = client.sample(draw(states, 500, seed=3)).latents[0]
    assert [result for result in check_prior(address) if not result.passed] == []
    assert latents.shape == (500, LATENT)
    # The world's latents: (2 s_0 +- 3, 5), here for states around 4, both sides alike.
    assert latents[:, 1] == pytest.approx(5.0, abs=0.8)
    sides = np.sign(latents[:, 0] - 8.0)
    assert abs(sides.mean()) < 0.5
    assert np.abs(latents[:, 0] - (8.0 + 3.0 * sides)).mean() < 1.5


def test_the_same_q_learner_and_actor_are_driven_by_it(
    start: StartServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.set_num_threads(1)
    changes: dict[str, Any] = {
        "prior.implementation": "neighbours",
        "evaluation.methods": METHODS,
        "evaluation.episodes": 2,
        "evaluation.video": False,
    }
    config = override(Config.model_validate({**CONFIG, "variants": {}, "evaluation": {}}), changes)
    store = Store(tmp_path)
    address = start(store)
    services.vae.train.run(context(config, store))
    prior = services.prior.train.run(context(config, store, address))
    with PriorClient(address) as client:
        served = client.describe().model_version
    meta = store.meta("prior", prior)
    assert (meta.implementation, meta.parents["served"]) == ("neighbours", served)

    critic = services.qlearner.train.run(context(config, store, address))
    assert store.meta("critic", critic).parents["prior"] == prior
    evaluation = store.load(
        "evaluation", services.actor.train.run(context(config, store, address))
    ).meta
    rows: Any = evaluation.details["rows"]
    assert [row["method"] for row in rows] == list(METHODS)
    assert evaluation.parents["prior"] == prior

    # What is there already is found again, and what is not the configured prior is refused.
    assert services.prior.train.run(context(config, store, address)) == prior
    other = override(config, {"prior.implementation": "somebody_elses"})
    with pytest.raises(FailedPreconditionError, match="somebody_elses"):
        services.prior.train.run(context(other, store, address))
    assert "'somebody_elses' is none of those installed (diffusion, gaussian)" in caplog.text
