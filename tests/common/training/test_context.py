"""A stage takes only parents that belong to its configuration and to each other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from common.rpc.stage import Progress
from common.store import CorruptArtifactError, Meta, Store, StoreError, owning_variant, stage_spec
from common.store.datasets import keep_fingerprint, stamp
from common.training.context import StageContext
from ldcq.config import Config, load, override
from ldcq.learning.learner import Stopped
from tests.stopping import in_turn, stop_once_said


def publish(
    store: Store, config: Config, kind: str, parents: dict[str, str], variant: str = "main"
) -> str:
    meta = Meta(kind=kind, spec=stage_spec(config, kind, parents), parents=parents)
    return store.publish(meta, {}, "", variant)


def publish_all(store: Store, config: Config, dataset: str = "") -> dict[str, str]:
    versions: dict[str, str] = {}
    data = {"dataset": dataset} if dataset else {}
    for kind in ("vae", "latents", "prior", "critic"):
        if kind == "latents":  # what the context looks at, without the table
            meta = Meta(kind=kind, spec=stage_spec(config, kind, versions), parents=versions)
            folder = store.folder(kind) / f"of-{versions['vae']}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "meta.json").write_text(meta.model_dump_json())
            store.point(kind, folder.name)
            versions[kind] = folder.name
        else:
            own = data if kind == "vae" else versions
            versions[kind] = publish(store, config, kind, dict(own))
    return versions


def context(store: Store, config: Config, variant: str = "main") -> StageContext:
    stop = threading.Event()
    return StageContext(config, store, Progress("test"), variant, stop)


def test_parents_of_this_configuration_are_taken_at_once(tmp_path: Path) -> None:
    store, config = Store(tmp_path), load("demo")
    versions = publish_all(store, config)
    for kind, version in versions.items():
        assert context(store, config).wait_for(kind) == version
    assert owning_variant(config, "bcq_h", "latents") == "main"
    assert context(store, config, "bcq_h").wait_for("latents") == versions["latents"]


@pytest.mark.parametrize(
    ("key", "value", "published", "said"),
    [
        ("critic.updates", 3, [], "critic of main: the current one (VERSION) was made with other"),
        # The critic's own settings are as before, but it descends from another VAE.
        ("vae.epochs", 3, ["vae"], "latents of main: the current one (VERSION) was made from an"),
    ],
)
def test_what_another_configuration_left_is_waited_over(
    tmp_path: Path, key: str, value: object, published: list[str], said: str
) -> None:
    store, old = Store(tmp_path), load("demo")
    before = publish_all(store, old)
    new = override(old, {key: value})
    for kind in published:
        meta = Meta(kind=kind, spec=stage_spec(new, kind, {}), details={"of": "new"})
        store.publish(meta, {}, "")
    waiting = context(store, new)
    kind = said.split()[0]
    stop_once_said(waiting.progress, waiting.stop, said.replace("VERSION", before[kind]))
    with pytest.raises(Stopped):
        waiting.wait_for("critic")
    now = waiting.progress.snapshot()
    assert said.replace("VERSION", before[kind]) in now.message
    assert now.waiting_for == kind
    expected = publish_all(store, new)["critic"]
    assert context(store, new).wait_for("critic") == expected


def test_what_was_made_from_the_data_of_before_is_waited_over(tmp_path: Path) -> None:
    """By every stage, also by those that cannot read the data themselves."""
    store, data = Store(tmp_path / "store"), tmp_path / "data.hdf5"
    data.write_bytes(b"of before")
    config = override(load("demo"), {"data.dataset": str(data), "data.generate": None})

    def read(fingerprint: str) -> None:
        files = stamp(config.data, store.root)
        keep_fingerprint(config.data, store.root, files, fingerprint)

    before = publish_all(store, config, "before")
    assert context(store, config).wait_for("critic") == before["critic"]  # nobody read the data yet
    read("before")
    assert context(store, config).wait_for("critic") == before["critic"]
    data.write_bytes(b"of now")
    waiting = context(store, config)
    stop_once_said(waiting.progress, waiting.stop, "has changed since it was read last")
    with pytest.raises(Stopped):
        waiting.wait_for("critic")
    assert waiting.progress.snapshot().waiting_for == "dataset"
    read("now")
    waiting = context(store, config)
    stop_once_said(waiting.progress, waiting.stop, "was made from other data")
    with pytest.raises(Stopped):
        waiting.wait_for("critic")
    assert waiting.progress.snapshot().waiting_for == "vae"
    now = publish_all(store, config, "now")
    assert context(store, config).wait_for("critic") == now["critic"] != before["critic"]
    read("before")  # the same data as before, written anew
    assert context(store, config).wait_for("critic") == before["critic"]


def test_a_stage_says_what_it_waits_for_and_takes_its_own_variants(tmp_path: Path) -> None:
    store, config = Store(tmp_path), load("demo")
    versions = {kind: publish_all(store, config)[kind] for kind in ("vae", "latents")}
    own = override(config, {"prior.implementation": "gaussian"})
    waiting = context(store, config, "bcq_h")
    found: list[str] = []
    waiter = threading.Thread(target=lambda: found.append(waiting.wait_for("prior")))
    waiter.start()
    first = _said(waiting, "waiting for prior of bcq_h in")
    assert "`ldcq train prior CONFIG --variant bcq_h`" in first
    wrong = publish(store, own, "prior", {**versions, "vae": "wrong"}, "bcq_h")
    second = _said(waiting, wrong)
    assert "made anew by `ldcq train prior CONFIG --variant bcq_h`" in second
    assert not found
    right = publish(store, own, "prior", versions, "bcq_h")
    waiter.join(10)
    assert found == [right]
    assert not waiting.progress.snapshot().waiting_for


def test_a_current_artifact_that_was_deleted_is_waited_for(tmp_path: Path) -> None:
    store, config = Store(tmp_path), load("demo")
    version = publish(store, config, "vae", {})
    store.place.remove(store.key("vae", version))
    waiting = context(store, config)
    stop_once_said(waiting.progress, waiting.stop, "waiting for vae of main in")
    with pytest.raises(Stopped, match="asked to stop while waiting: waiting for vae") as caught:
        waiting.wait_for("vae")
    assert not isinstance(caught.value, StoreError)
    assert publish(store, config, "vae", {}) == version
    assert context(store, config).wait_for("vae") == version


def test_a_stage_that_makes_it_anew_is_not_kept_from_it_by_what_is_damaged(tmp_path: Path) -> None:
    store, config = Store(tmp_path), load("demo")
    versions = publish_all(store, config)
    (store.folder("prior") / versions["prior"] / "meta.json").write_text("{")
    with pytest.raises(CorruptArtifactError):
        context(store, config).wait_for("prior")
    parents = context(store, config).wait_for_parents("prior")
    assert parents == {kind: versions[kind] for kind in ("vae", "latents")}


def _said(stage: StageContext, words: str) -> str:
    """What the stage says, once that has these words in it."""
    for update in in_turn(stage.progress.updates(timeout=10.0)):
        if words in update.message:
            return update.message
    raise AssertionError(words)
