import json
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from common.store import Meta, Store
from common.store.timings import Stopwatch
from experiments.evaluations import Evaluations
from experiments.registry import lineages
from ldcq.config import load

STEPS = 10
EPISODES = 20
CONFIG = load("demo", ["actor.sampling.temperature=0.5"])


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


def evaluation(
    store: Store,
    seed: int,
    hits: np.ndarray,
    *,
    first_hit: bool = True,
    said: np.ndarray | None = None,
    theirs: np.ndarray | None = None,
) -> str:
    """LDCQ is at the goal for one step, `hits`; BCQ-H for the step after it; the data never."""
    vae = publish(store, "vae", seed, {"dataset": "d"}, 1.0)
    prior = publish(store, "prior", seed, {"vae": vae}, 10.0 + seed)
    other = publish(store, "prior", 100 + seed, {"vae": vae}, 50.0)
    critic = publish(store, "critic", seed, {"vae": vae, "prior": prior}, 100.0)
    bcq = publish(store, "critic", 100 + seed, {"vae": vae, "prior": other}, 200.0)
    rewards, later = np.zeros((2, EPISODES, STEPS), np.float32)
    rewards[np.arange(EPISODES), hits] = 1.0
    later[np.arange(EPISODES), hits + 1] = 1.0
    nothing = np.zeros((3, STEPS), np.float32)
    played = {"ldcq": rewards, "bcq_h": later, "behaviour": nothing}
    policies = {"ldcq": "ldcq", "bcq_h": "bcq_h", "behaviour": "behaviour"}
    succeeded = {
        name: done for name, done in (("ldcq", said), ("bcq_h", theirs)) if done is not None
    }
    rows: list[JsonValue] = [
        {
            "method": name,
            "policy": policies[name],
            "variant": "bcq_h" if name == "bcq_h" else "main",
            "seed": 1000,
            "first_hit": {"mean": 0.0} if first_hit else None,
            "candidates": None if name == "behaviour" else 50,
            "success_score": {"mean": 0.0} if name in succeeded else None,
        }
        for name in played
    ]
    tensors: dict[str, np.ndarray] = {f"{name}/rewards": value for name, value in played.items()}
    tensors |= {
        f"{name}/lengths": np.full(len(value), STEPS, np.int64) for name, value in played.items()
    }
    tensors |= {f"{name}/success": done for name, done in succeeded.items()}
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
    versions = {0: evaluation(store, 0, early), 1: evaluation(store, 1, late)}
    found = Evaluations(store, CONFIG, versions)
    row = found.row("ldcq", settings={"horizon": 5})
    assert row.episode_return is not None
    assert row.first_hit is not None
    assert row.episode_return.mean == pytest.approx(10.0)  # one reward of ten possible
    assert row.first_hit.mean == pytest.approx(60.0)  # 8 and 4 steps of ten
    # Two seeds, 40 apart and without noise: Student's t with one degree of freedom.
    assert row.first_hit.ci_high - 60.0 == pytest.approx(12.7062 * 20.0, rel=1e-4)
    assert row.settings == {"horizon": 5, "candidates": 50, "temperature": 0.5}
    assert (row.success, row.episodes, row.seeds) == (1.0, EPISODES, 2)
    assert row.train_seconds == pytest.approx((111.0 + 112.0) / 2)
    other = found.row("bcq_h", method="bcq")
    assert other.method == "bcq"
    assert other.train_seconds == pytest.approx(251.0), "its own prior and critic, the shared VAE"
    difference = found.difference("ldcq", "bcq_h", {"horizon": 5})
    assert difference.first_hit is not None
    assert (difference.first_hit.ci_low, difference.first_hit.ci_high) == pytest.approx((10, 10))
    assert difference.episode_return.mean == pytest.approx(0.0)
    timings = lineages(store, versions.values()).values()
    assert sum(timing.seconds for timing in timings) == pytest.approx(2 * (1 + 50 + 300) + 21)
    assert not any(timing.lost for timing in timings)


def test_the_data_count_once_and_were_not_trained(store: Store) -> None:
    hits = np.full(EPISODES, 2)
    versions = {seed: evaluation(store, seed, hits) for seed in (0, 1)}
    row = Evaluations(store, CONFIG, versions).row("behaviour")
    assert row.settings == {"candidates": None, "temperature": None}
    assert (row.episodes, row.seeds, row.train_seconds, row.success) == (3, 0, None, 0.0)


def test_a_task_without_first_hits_has_none(store: Store) -> None:
    hits = np.full(EPISODES, 2)
    versions = {0: evaluation(store, 0, hits, first_hit=False)}
    row = Evaluations(store, CONFIG, versions).row("ldcq")
    assert (row.first_hit, row.success) == (None, None)


def test_work_that_nobody_timed_to_its_end_is_known_to_be_missing(store: Store) -> None:
    version = evaluation(store, 0, np.full(EPISODES, 2))
    critic = store.meta("evaluation", version).parents["critic"]
    Stopwatch(store, "critic", store.meta("critic", critic).spec).__enter__()  # then kill -9
    with Stopwatch(store, "critic", store.meta("critic", critic).spec):
        pass
    assert any(timing.lost for timing in lineages(store, [version]).values())


def test_success_is_a_score_over_seeds_where_it_is_the_score(store: Store) -> None:
    hits = np.zeros(EPISODES, np.int64)
    said = [np.arange(EPISODES) < count for count in (5, 15)]
    versions = {
        seed: evaluation(store, seed, hits, first_hit=False, said=said[seed]) for seed in (0, 1)
    }
    row = Evaluations(store, CONFIG, versions).row("ldcq")
    assert row.success_score is not None
    assert (row.success, row.success_score.mean) == (0.5, 50.0)
    assert Evaluations(store, CONFIG, versions).row("bcq_h").success_score is None


def test_where_success_is_the_score_it_is_what_methods_differ_in(store: Store) -> None:
    hits, all_of_them = np.zeros(EPISODES, np.int64), np.arange(EPISODES)
    versions = {
        seed: evaluation(
            store, seed, hits, first_hit=False, said=all_of_them < 15, theirs=all_of_them < 5
        )
        for seed in (0, 1)
    }
    difference = Evaluations(store, CONFIG, versions).difference("ldcq", "bcq_h")
    assert difference.success_score is not None
    assert [*difference.scores] == ["success %"]
    assert difference.scores["success %"].mean == pytest.approx(50.0)
    assert difference.as_json()["success_score"]["mean"] == pytest.approx(50.0)
