"""The human door demonstrations, 28 action dimensions, through the whole pipeline."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from common.store import Store
from tests.command import REPORT, ldcq, run_json, tiny_configuration

FOLDER = os.environ.get("LDCQ_THIRD_PARTY_DATA")
METHODS = ["ldcq", "bcq_h", "prior", "behaviour"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.xdist_group("pipeline"),
    pytest.mark.skipif(
        FOLDER is None,
        reason="set LDCQ_THIRD_PARTY_DATA to a folder with door-human/door-v0_demos.npz",
    ),
]


def test_the_door_demonstrations_go_through_the_pipeline(tmp_path: Path) -> None:
    store = tmp_path / "store"
    file = Path(str(FOLDER)) / "door-human" / "door-v0_demos.npz"
    ldcq("data", "door-demos", file, "--store", store)
    config = tiny_configuration(
        tmp_path,
        {
            "data": {"dataset": "ldcq/door-human-v0"},
            "vae": {"decoder_hidden": 16},
            "critic": {"reward_scale": 0.001},
        },
    )
    result = run_json(config, store, *REPORT)
    assert [row["method"] for row in result["rows"]] == METHODS
    assert [row["episodes"] for row in result["rows"]] == [3, 3, 3, 25]
    for row in result["rows"]:
        assert row["first_hit"] is None
        assert all(math.isfinite(value) for value in row["return"].values())
    behaviour = result["rows"][-1]
    assert behaviour["return"]["ci_low"] > 0, "people do better than D4RL's random policy"
    assert "<html" in Path(result["report"]).read_text()[:200].lower()
    opened = Store(store)
    version = opened.current("vae")
    assert version is not None
    dimensions = opened.meta("vae", version).dimensions
    assert (dimensions["state"], dimensions["action"]) == (39, 28)
