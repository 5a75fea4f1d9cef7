"""PointMaze as pictures, from nothing to scores: data, frames, latents, prior, critic, rollouts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from common.store import Store
from tests.command import PATIENCE, PIXELS, ldcq, run_json

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
@pytest.mark.xdist_group("pixels")
@pytest.mark.timeout(600)
def test_a_configuration_goes_from_pictures_to_scores(tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = run_json(PIXELS, store)
    assert [row["method"] for row in result["rows"]] == ["ldcq", "bc", "behaviour"]
    assert [row["episodes"] for row in result["rows"][:2]] == [3, 3]
    opened = Store(store)
    version = opened.current("evaluation")
    assert version is not None
    parents = opened.meta("evaluation", version).parents
    assert {"frames", "vae", "prior", "critic", "bc", "dataset"} == set(parents)
    for kind in ("vae", "bc"):
        assert opened.meta(kind, parents[kind]).parents["frames"] == parents["frames"]
    assert list((store / "videos").iterdir()), "the environment draws itself"

    # The example compresses the pictures with the exported encoder.
    policy = tmp_path / "policy"
    ldcq("export", store, policy)
    command = [sys.executable, str(EXAMPLES / "act.py"), str(policy), "--store", str(store)]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert printed.returncode == 0, printed.stderr
    assert printed.stdout.count("return") == 3
