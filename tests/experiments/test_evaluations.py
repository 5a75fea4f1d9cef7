import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from common.store import Meta, Store
from common.store.timings import Stopwatch
from experiments.evaluations import Evaluations

STEPS = 10
EPISODES = 20


def publish(
    store: Store,
    kind: str,
    seed: int,
    parents: dict[str, str],
    seconds: float | None,
    details: dict[str, JsonValue] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
) -> str:
    """An artifact that took `seconds` to make."""
    meta = Meta(
        kind=kind, spec={"seed": seed, "parents": {**parents}}, parents=parents,
        details=details or {},
    )  # fmt: skip
    version = store.publish(meta, tensors or {"w": np.full(1, seed, np.float32)}, "")
    if seconds is not None:
        with Stopwatch(store, kind, meta.spec):
            pass
        newest = max((store.root / "timings" / kind).iterdir(), key=lambda p: p.stat().st_mtime_ns)
        newest.write_text(json.dumps({"seconds": seconds}))
    return version


def evaluation(store: Store, seed: int, hits: np.ndarray, *, first_hit: bool = True) -> str:
    """LDCQ reaches the goal at step `hits` and stays one step; the data never do."""
    vae = publish(store, "vae", seed, {"dataset": "d"}, 1.0)
    prior = publish(store, "prior", seed, {"vae": vae}, 10.0 + seed)
    other = publish(store, "prior", 100 + seed, {"vae": vae}, 50.0)
    critic = publish(store, "critic", seed, {"vae": vae, "prior": prior}, 100.0)
    bcq = publish(store, "critic", 100 + seed, {"vae": vae, "prior": other}, 200.0)
    rewards = np.zeros((EPISODES, STEPS), np.float32)
    rewards[np.arange(EPISODES), hits] = 1.0
    nothing = np.zeros((3, STEPS), np.float32)
    played = {"ldcq": rewards, "bcq_h": rewards, "behaviour": nothing}
    policies = {"ldcq": "ldcq", "bcq_h": "bcq_h", "behaviour": "behaviour"}
    rows: list[JsonValue] = [
        {
            "method": name,
            "policy": policies[name],
            "variant": "bcq_h" if name == "bcq_h" else "main",
            "seed": 1000,
            "first_hit": {"mean": 0.0} if first_hit else None,
        }
        for name in played
    ]
    tensors: dict[str, np.ndarray] = {f"{name}/rewards": value for name, value in played.items()}
    tensors |= {
        f"{name}/lengths": np.full(len(value), STEPS, np.int64) for name, value in played.items()
    }
    details: dict[str, JsonValue] = {
        "rows": rows,
        "max_episode_steps": STEPS,
        "reference_scores": [0.0, 10.0],
        "confidence": 0.95,
    }
    parents = {"vae": vae, "prior": prior, "critic": critic}
    parents |= {"prior.bcq_h": other, "critic.bcq_h": bcq}
    return publish(store, "evaluation", seed, parents, None, details, tensors)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def test_a_row_averages_over_seeds_and_counts_a_methods_own_stages(store: Store) -> None:
    early, late = np.full(EPISODES, 2), np.full(EPISODES, 6)
    found = Evaluations(store, {0: evaluation(store, 0, early), 1: evaluation(store, 1, late)})
    row = found.row("ldcq", settings={"horizon": 5})
    assert row.episode_return is not None
    assert row.first_hit is not None
    assert row.episode_return.mean == pytest.approx(10.0)  # one reward of ten possible
    assert row.first_hit.mean == pytest.approx(60.0)  # 8 and 4 steps of ten
    assert (row.first_hit.ci_low, row.first_hit.ci_high) == (40.0, 80.0)
    assert (row.success, row.episodes, row.seeds) == (1.0, EPISODES, 2)
    assert row.train_seconds == pytest.approx((111.0 + 112.0) / 2)
    other = found.row("bcq_h", method="bcq")
    assert other.method == "bcq"
    assert other.train_seconds == pytest.approx(251.0), "its own prior and critic, the shared VAE"
    assert not found.lost


def test_the_data_count_once_and_were_not_trained(store: Store) -> None:
    hits = np.full(EPISODES, 2)
    found = Evaluations(store, {seed: evaluation(store, seed, hits) for seed in (0, 1)})
    row = found.row("behaviour")
    assert (row.episodes, row.seeds, row.train_seconds, row.success) == (3, 0, None, 0.0)


def test_a_task_without_first_hits_has_none(store: Store) -> None:
    hits = np.full(EPISODES, 2)
    row = Evaluations(store, {0: evaluation(store, 0, hits, first_hit=False)}).row("ldcq")
    assert (row.first_hit, row.success) == (None, None)


def test_work_that_nobody_timed_to_its_end_is_known_to_be_missing(store: Store) -> None:
    version = evaluation(store, 0, np.full(EPISODES, 2))
    critic = store.meta("evaluation", version).parents["critic"]
    Stopwatch(store, "critic", store.meta("critic", critic).spec).__enter__()  # then kill -9
    with Stopwatch(store, "critic", store.meta("critic", critic).spec):
        pass
    assert Evaluations(store, {0: version}).lost
