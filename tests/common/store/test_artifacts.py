"""Publishing, resolving and waiting, in real folders and buckets with real processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.store import (
    CorruptArtifactError,
    Meta,
    MissingArtifactError,
    Store,
    StoreError,
    is_remote,
)

TENSORS: dict[str, np.ndarray] = {
    "weight": np.arange(12, dtype=np.float32).reshape(3, 4).T,
    "half": np.array([1.5, np.inf], np.float16),
    "count": np.array(7, np.int64),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
}
META = Meta(
    kind="vae",
    implementation="mlp",
    spec={"config": {"seed": 0}, "parents": {"dataset": "d"}},
    parents={"dataset": "d"},
    dimensions={"state": 4},
    details={"low": [-1.0, 0.1], "none": None, "big": 1e300},
)


def test_an_artifact_comes_back_as_it_was_published(store: Store) -> None:
    version = store.publish(META, TENSORS, "name: test\n")
    artifact = store.load("vae", version)
    assert artifact.version == version == store.current("vae")
    assert artifact.meta == META
    assert artifact.tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert artifact.tensors[name].dtype == array.dtype
        assert artifact.tensors[name].shape == array.shape
        np.testing.assert_array_equal(artifact.tensors[name], array)
    folder = f"artifacts/vae/{version}"
    assert store.place.read(f"{folder}/config.yaml") == b"name: test\n"
    assert store.place.keys(folder) == {"weights.safetensors", "meta.json", "config.yaml"}


def test_an_artifact_without_tensors(store: Store) -> None:
    meta = Meta(kind="evaluation", details={"rows": [{"return": 1.25}]})
    artifact = store.load("evaluation", store.publish(meta, {}, ""))
    assert artifact.meta.details == {"rows": [{"return": 1.25}]}
    assert artifact.tensors == {}


def test_the_version_is_the_content(store: Store, tmp_path: Path) -> None:
    version = store.publish(META, TENSORS, "")
    assert Store(tmp_path / "other").publish(META, TENSORS, "else") == version
    changed = {**TENSORS, "weight": TENSORS["weight"] + np.float32(1e-6)}
    reshaped = {**TENSORS, "weight": np.ascontiguousarray(TENSORS["weight"]).reshape(2, 6)}
    renamed = {("w" if name == "weight" else name): array for name, array in TENSORS.items()}
    other_meta = META.model_copy(update={"parents": {"dataset": "e"}})
    versions = {
        version,
        store.publish(META, changed, ""),
        store.publish(META, reshaped, ""),
        store.publish(META, renamed, ""),
        store.publish(other_meta, TENSORS, ""),
    }
    assert len(versions) == 5
    assert set(store.versions("vae")) == versions


def test_publishing_again_writes_nothing_and_points_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.publish(META, TENSORS, "")
    second = store.publish(META, {"w": np.zeros(2)}, "")
    assert store.current("vae") == second
    monkeypatch.setattr(store.place, "add", lambda *_: pytest.fail("written again"))
    assert store.publish(META, TENSORS, "") == first == store.current("vae")


def test_variants_have_pointers_of_their_own(store: Store) -> None:
    main = store.publish(META, TENSORS, "")
    own = store.publish(META, {"w": np.zeros(2)}, "", variant="bcq_h")
    assert (store.current("vae"), store.current("vae", "bcq_h")) == (main, own)
    assert store.current("vae", "third") is None
    store.point("vae", main, "third")
    assert store.current("vae", "third") == main
    with pytest.raises(MissingArtifactError, match="0123"):
        store.point("vae", "0123456789abcdef")
    with pytest.raises(StoreError, match=r"variant: got '\.\./x'"):
        store.current("vae", "../x")


def test_pointers_names_every_variant_the_main_one_first(store: Store) -> None:
    assert store.pointers("vae") == {}
    store.publish(META, TENSORS, "", "a_variant")
    other = META.model_copy(update={"implementation": "gru"})
    main = store.publish(other, TENSORS, "")
    assert next(iter(store.pointers("vae").items())) == ("main", main)
    assert store.pointers("vae")["a_variant"] == store.current("vae", "a_variant") != main


def test_find_compares_the_whole_spec(store: Store) -> None:
    version = store.publish(META, TENSORS, "")
    assert store.find("vae", META.spec) == version
    assert store.find("vae", {**META.spec, "parents": {"dataset": "e"}}) is None
    assert store.find("prior", META.spec) is None


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "meta-cut", "meta-changed"])
def test_damage_is_found_named_and_repaired_by_publishing_again(store: Store, damage: str) -> None:
    version = store.publish(META, TENSORS, "")
    place, folder = store.place, store.key("vae", version)
    file = f"{folder}/{'meta.json' if 'meta' in damage else 'weights.safetensors'}"
    content = place.read(file)
    assert content is not None
    match damage:
        case "cut" | "meta-cut":
            place.write(file, content[:-5])
        case "flip":
            place.write(file, content[:-1] + bytes([content[-1] ^ 1]))
        case "remove":
            place.remove(file)
        case "meta-changed":
            place.write(file, content.replace(b'"state":4', b'"state":5'))
    with pytest.raises(CorruptArtifactError) as caught:
        store.load("vae", version)
    assert store.where("vae", version) in str(caught.value)
    assert "start the vae stage again" in str(caught.value) or "start its stage" in str(
        caught.value
    )
    assert store.publish(META, TENSORS, "") == version
    assert store.load("vae", version).meta == META
    assert store.versions("vae") == [version]


def test_what_is_missing_is_said_to_be(store: Store) -> None:
    with pytest.raises(MissingArtifactError, match="vae 0123456789abcdef is not in the store"):
        store.load("vae", "0123456789abcdef")
    assert store.current("vae") is None
    assert store.versions("vae") == []


def test_a_meta_that_json_cannot_hold_is_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="vae: its meta is not JSON"):
        store.publish(Meta(kind="vae", details={"x": float("nan")}), {}, "")


@pytest.mark.parametrize("where", ["below a file", "a file", "proc"])
def test_a_store_that_cannot_be_written_is_refused(tmp_path: Path, where: str) -> None:
    file = tmp_path / "file"
    file.touch()
    path = {"below a file": file / "store", "a file": file, "proc": Path("/proc/ldcq-store")}[where]
    with pytest.raises(StoreError, match=r"not writable.*--store") as caught:
        Store(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3:///x", "s3://Not_A_Bucket/x"])
def test_a_store_elsewhere_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LDCQ_SCRATCH", str(tmp_path))
    with pytest.raises(StoreError, match=f"{url}: expected a folder, s3://BUCKET"):
        Store(url)


PUBLISH = """
import sys
import numpy as np
from common.store import Meta, Store
store = Store(sys.argv[1])
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    weights = {"w": np.full((64, 64), number, np.float32)}
    print(store.publish(Meta(kind="vae", details={"number": number}), weights, "c"))
"""


def test_concurrent_publishers_of_the_same_content_all_succeed(store: Store) -> None:
    count = 5 if is_remote(store.url) else 20
    publishers = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISH, store.url, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = []
    for process in publishers:  # let them go together
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in publishers:
        outputs.append(process.communicate(timeout=60)[0].split())
        assert process.returncode == 0
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(outputs[0]) == count
    assert sorted(outputs[0]) == store.versions("vae")
    for version in outputs[0]:
        store.load("vae", version)
    assert not [key for key in store.place.keys(store.key("vae")) if key.startswith(".")]
