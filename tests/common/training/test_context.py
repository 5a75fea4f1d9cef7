"""A stage takes only parents that belong to its configuration and to each other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from common.rpc.stage import Progress
from common.store import CorruptArtifactError, Meta, Store, StoreError, owning_variant, stage_spec
from common.training.context import StageContext
from ldcq.config import Config, load, override
from ldcq.learning.learner import Stopped
from tests.stopping import in_turn, stop_once_said


def publish(
    store: Store, config: Config, kind: str, parents: dict[str, str], variant: str = "main"
) -> str:
    meta = Meta(kind=kind, spec=stage_spec(config, kind, parents), parents=parents)
    return store.publish(meta, {}, "", variant)


def publish_all(store: Store, config: Config) -> dict[str, str]:
    versions: dict[str, str] = {}
    for kind in ("vae", "latents", "prior", "critic"):
        if kind == "latents":  # what the context looks at, without the table
            meta = Meta(kind=kind, spec=stage_spec(config, kind, versions), parents=versions)
            folder = store.folder(kind) / f"of-{versions['vae']}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "meta.json").write_text(meta.model_dump_json())
            store.point(kind, folder.name)
            versions[kind] = folder.name
        else:
            versions[kind] = publish(store, config, kind, dict(versions))
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
    ("key", "value", "published"),
    [
        ("critic.updates", 3, []),
        # The critic's own settings are as before, but it descends from another VAE.
        ("vae.epochs", 3, ["vae"]),
    ],
)
def test_what_another_configuration_left_is_waited_over(
    tmp_path: Path, key: str, value: object, published: list[str]
) -> None:
    store, old = Store(tmp_path), load("demo")
    publish_all(store, old)
    new = override(old, {key: value})
    for kind in published:
        meta = Meta(kind=kind, spec=stage_spec(new, kind, {}), details={"of": "new"})
        store.publish(meta, {}, "")
    waiting = context(store, new)
    stop_once_said(waiting.progress, waiting.stop, "made with another configuration")
    with pytest.raises(Stopped):
        waiting.wait_for("critic")
    said = waiting.progress.snapshot().message
    assert "made with another configuration or from other parents" in said
    expected = publish_all(store, new)["critic"]
    assert context(store, new).wait_for("critic") == expected


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
