import json
import time
from pathlib import Path

import numpy as np
import pytest
from pydantic import JsonValue

from common.store import Meta, Store
from common.store.timings import Stopwatch, Timing, lineage_timings

SPEC: dict[str, JsonValue] = {"config": {"epochs": 3}}


def publish(store: Store, kind: str, parents: dict[str, str]) -> str:
    meta = Meta(kind=kind, spec={**SPEC, "parents": {**parents}}, parents=parents)
    return store.publish(meta, {"w": np.zeros(1, np.float32)}, "")


def _work_until_interrupted() -> None:
    time.sleep(0.05)
    raise KeyboardInterrupt


def test_interrupted_work_adds_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(KeyboardInterrupt), Stopwatch(store, "vae", SPEC):
        _work_until_interrupted()
    with Stopwatch(store, "vae", SPEC):
        time.sleep(0.05)
    version = store.publish(Meta(kind="vae", spec=SPEC), {"w": np.zeros(1, np.float32)}, "")
    found = lineage_timings(store, "vae", version).get(("vae", version))
    assert found is not None
    assert found.seconds >= 0.1
    assert (found.lost, found.open) == (0, False)


def test_a_process_that_was_killed_is_said_to_be_missing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    Stopwatch(store, "vae", SPEC).__enter__()  # and nothing more of it
    with Stopwatch(store, "vae", SPEC):
        pass
    version = store.publish(Meta(kind="vae", spec=SPEC), {"w": np.zeros(1, np.float32)}, "")
    found = lineage_timings(store, "vae", version).get(("vae", version))
    assert found is not None
    assert found.lost == 1


def test_timings_leave_the_artifact_as_it_is(tmp_path: Path) -> None:
    store = Store(tmp_path)
    before = publish(store, "vae", {"dataset": "d"})
    with Stopwatch(store, "vae", store.meta("vae", before).spec):
        pass
    assert publish(store, "vae", {"dataset": "d"}) == before
    assert store.load("vae", before).version == before


def test_a_lineage_counts_each_ancestor_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    vae = publish(store, "vae", {"dataset": "d"})
    prior = publish(store, "prior", {"vae": vae})
    critic = publish(store, "critic", {"vae": vae, "prior": prior})
    for kind, version, seconds in (("vae", vae, 1.0), ("prior", prior, 2.0), ("critic", critic, 4)):
        with Stopwatch(store, kind, store.meta(kind, version).spec):
            pass
        (path,) = (tmp_path / "timings" / kind).iterdir()
        path.write_text(json.dumps({"seconds": seconds}))
    found = lineage_timings(store, "critic", critic)
    assert sum(item.seconds for item in found.values()) == 7.0
    assert set(found) == {("vae", vae), ("prior", prior), ("critic", critic)}


def test_what_nobody_timed_is_unknown(tmp_path: Path) -> None:
    store = Store(tmp_path)
    version = publish(store, "vae", {})
    assert lineage_timings(store, "vae", version).get(("vae", version)) is None
    (tmp_path / "timings" / "vae").mkdir(parents=True)
    with Stopwatch(store, "vae", store.meta("vae", version).spec):
        pass
    (path,) = (tmp_path / "timings" / "vae").iterdir()
    path.write_text("{")
    assert lineage_timings(store, "vae", version).get(("vae", version)) == Timing(lost=1)
