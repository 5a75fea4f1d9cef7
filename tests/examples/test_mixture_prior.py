"""The example of a third party's prior: installed, chosen by one key, trained, served, sampled."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

import services.prior.train
from common.rpc.clients import PriorClient
from common.rpc.stage import Progress
from common.store import Store
from common.training.context import StageContext
from ldcq.config import Config, ConfigError, load, override
from ldcq.registry import registered
from tests.draws import draw
from tests.services.prior.world import (
    Replica,
    publish_latents,
    publish_vae,
    small_config,
)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mixture-prior"


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install` leaves it: the module, and its entry points as its pyproject has them."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    lines = [f"Name: {project['name']}", f"Version: {project['version']}"]
    folder = tmp_path / "site" / f"mixture_prior-{project['version']}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", *lines, ""]))
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in members.items())
        for group, members in project["entry-points"].items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(points))
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.syspath_prepend(EXAMPLE)


def context(config: Config, store: Store) -> StageContext:
    return StageContext(config, store, Progress("prior"))


def test_one_key_swaps_it_in() -> None:
    demo, swapped = load("demo"), load("demo", ["prior.implementation=mixture"])
    assert override(swapped, {"prior.implementation": "diffusion"}) == demo
    assert "mixture" in registered()


def test_it_is_trained_served_and_finds_both_modes(tmp_path: Path) -> None:
    config = override(
        small_config(epochs=20),
        {
            "prior.implementation": "mixture",
            "prior.options.mixture": {"components": 4, "hidden": [32]},
        },
    )
    store = Store(tmp_path / "store")
    publish_latents(store, config, publish_vae(store, config), rows=6000)
    version = services.prior.train.run(context(config, store))
    meta = store.meta("prior", version)
    assert meta.implementation == "mixture"

    replica = Replica(store, config).ready(version)
    try:
        with PriorClient(replica.address) as client:
            states = np.full((1, 3), 4.0, np.float32)
            reply, again = (client.sample(draw(states, 2000, seed=3)) for _ in range(2))
    finally:
        replica.stop()
    assert reply.model_version == version
    np.testing.assert_array_equal(reply.latents, again.latents)
    # The world's latents are (2 s_0 +- 3, 5), both sides alike.
    drawn = reply.latents[0]
    assert drawn[:, 1] == pytest.approx(5.0, abs=1.0)
    sides = np.sign(drawn[:, 0] - 8.0)
    assert abs(sides.mean()) < 0.2
    assert np.abs(drawn[:, 0] - (8.0 + 3.0 * sides)).mean() < 0.5


def test_its_own_hyperparameters_are_checked_by_its_own_class(tmp_path: Path) -> None:
    config = small_config("mixture", options={"components": 0})
    message = "prior.options.mixture.components: got 0; Input should be greater than 0"
    with pytest.raises(ConfigError, match=re.escape(message)):
        services.prior.train.run(context(config, Store(tmp_path)))
