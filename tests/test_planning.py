"""`ldcq run` with LDCP and BC only: a world model, a network, and no critic."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from common.store import Store
from tests.command import TINY, ldcq, run_json

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]


def test_ldcp_and_bc_run_without_a_critic(tmp_path: Path) -> None:
    methods = {
        "ldcq": {"policy": "behaviour"},
        "bcq_h": {"policy": "behaviour"},
        "prior": {"policy": "behaviour"},
        "ldcp": {"policy": "ldcp"},
        "ldgc": {"policy": "ldcp", "variant": "goals"},
        "bc": {"policy": "bc"},
    }
    changes = {
        "base": str(TINY),
        "data": {"goal_indices": [0, 1]},
        "world_model": {"hidden": [16], "epochs": 1},
        "bc": {"hidden": 16, "epochs": 1},
        "actor": {"planning": {"candidates": 4}},
        "evaluation": {"methods": methods},
        "variants": {"goals": {"prior.goal_conditioned": True, "actor.planning.depth": 1}},
    }
    config, store = tmp_path / "config.yaml", tmp_path / "store"
    config.write_text(yaml.safe_dump(changes))
    rows = {row["method"]: row for row in run_json(config, store)["rows"]}
    assert {name: rows[name]["depth"] for name in ("ldcp", "ldgc", "bc")} == {
        "ldcp": 2,
        "ldgc": 1,
        "bc": None,
    }
    assert all(rows[name]["episodes"] == 3 for name in ("ldcp", "ldgc", "bc"))
    kept = Store(store)
    assert kept.current("critic") is None
    # Goals are the prior's business: both methods share one world model.
    assert set(kept.pointers("world_model")) == {"main"}
    assert set(kept.pointers("prior")) == {"main", "goals"}

    status = json.loads(ldcq("status", "--store", store, "--json").stdout)
    kinds = {item["kind"] for item in status["artifacts"]}
    assert kinds == {"vae", "latents", "prior", "world_model", "bc", "evaluation"}
    again = ldcq("run", config, "--store", store)
    assert "Nothing was trained" in again.stdout

    network = kept.current("bc")
    assert ldcq("train", "bc", config, "--store", store).stdout == f"bc {network}\n"
    other = ldcq(
        *("train", "world_model", config, "--store", store),
        *("--set", "world_model.epochs=2"),
    )
    assert other.stdout == f"world_model {kept.current('world_model')}\n"
    assert len(kept.versions("world_model")) == 2
