"""`ldcq run kitchen-mixed`, small, on data of its shapes and keys: scores from the real kitchen."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ldcq.config import load
from tests.command import run_json
from tests.test_tasks import SIZES, write_minari

SMALL = {
    "base": "kitchen-mixed",
    "horizon": 10,
    "vae": {"hidden": 16, "decoder_hidden": 16, "latent_dim": 4, "decoded_steps": 4, "epochs": 1},
    "prior": {
        "options": {
            "diffusion": {"steps": 5, "blocks": [16, 16], "condition_dim": 16, "time_dim": 16},
            "gaussian": {"hidden": [16]},
        },
        "epochs": 1,
        "sampling": {"steps": 3},
    },
    "critic": {"hidden": [16], "updates": 20, "candidates": 4, "cached_candidates": 4},
    "actor": {"candidates": 4, "sampling": {"steps": 3}},
    "evaluation": {"episodes": 2, "environments": 2, "video": False},
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_ends_with_scores_of_the_kitchen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    state, _, action = SIZES["kitchen-mixed"]
    write_minari(load("kitchen-mixed"), state, action)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    result = run_json(path, tmp_path / "store")
    rows = {row["method"]: row for row in result["rows"]}
    assert result["normalised"]
    assert rows["ldcq"]["episodes"] == rows["prior"]["episodes"] == 2
    for method in ("ldcq", "bcq_h", "prior"):
        assert 0 <= rows[method]["return"]["mean"] <= 100  # four subtasks, each counted once
