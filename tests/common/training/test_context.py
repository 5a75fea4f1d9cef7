"""A stage takes only parents that belong to its configuration and to each other."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from common.rpc.stage import Progress
from common.store import Meta, Store, owning_variant, stage_spec
from common.training.context import StageContext
from ldcq.config import Config, load, override
from ldcq.learning.learner import Stopped
from tests.stopping import stop_once_said


def publish(store: Store, config: Config, kind: str, parents: dict[str, str]) -> str:
    meta = Meta(kind=kind, spec=stage_spec(config, kind, parents), parents=parents)
    return store.publish(meta, {}, "")


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
