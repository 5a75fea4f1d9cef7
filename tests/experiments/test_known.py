import shutil
from pathlib import Path

import pytest

from common.data.loading import ensure_dataset
from common.store import Meta, Store
from experiments.known import KnownRuns
from ldcq.config import Config, load, override


@pytest.fixture
def config() -> Config:
    walk = {"kind": "random_walk", "steps": 600}
    changes = {"data.dataset": "ldcq/known-v0", "data.generate": walk}
    return override(load("demo"), {**changes, "data.observation_keys": None})


@pytest.fixture
def store(tmp_path: Path, config: Config) -> Store:
    ensure_dataset(config.data, tmp_path, lambda _done, _total: None)
    return Store(tmp_path)


def evaluate(store: Store) -> str:
    vae = store.publish(Meta(kind="vae", parents={"dataset": "d"}), {}, "")
    prior = store.publish(Meta(kind="prior", parents={"vae": vae}), {}, "")
    parents = {"vae": vae, "prior.bcq_h": prior, "dataset": "d"}
    return store.publish(Meta(kind="evaluation", parents=parents), {}, "")


def test_a_configuration_is_known_by_all_that_decides_its_result(
    store: Store, config: Config
) -> None:
    known = KnownRuns(store)
    assert known.find(config) is None
    version = evaluate(store)
    known.add(config, version)
    assert KnownRuns(store).find(config) == version
    assert known.find(override(config, {"training.log_every": 7})) == version
    assert known.find(override(config, {"seed": 1})) is None
    assert known.find(override(config, {"variants": {}, "evaluation.methods": {}})) is None


def test_a_dataset_written_anew_is_another(store: Store, config: Config) -> None:
    known = KnownRuns(store)
    known.add(config, evaluate(store))
    (file,) = (store.root / "datasets").rglob("*.hdf5")
    file.touch()
    assert known.find(config) is None


@pytest.mark.parametrize("kind", ["evaluation", "prior", "vae"])
def test_what_lost_an_artifact_has_to_be_run(store: Store, config: Config, kind: str) -> None:
    known = KnownRuns(store)
    known.add(config, evaluate(store))
    shutil.rmtree(store.root / "artifacts" / kind)
    assert known.find(config) is None
