"""The latent table: exact, whole, checked."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import zarr

from common.store import (
    CorruptArtifactError,
    LatentWriter,
    LineageError,
    Meta,
    MissingArtifactError,
    Store,
    StoreError,
    latent_writer,
    open_latents,
)
from ldcq.data.latents import LatentTable

ROWS = 1000
META = Meta(
    kind="latents", spec={"config": {"horizon": 3}}, parents={"vae": "aaaa", "dataset": "d"}
)


def columns(rows: int = ROWS) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    float32 = np.float32
    return {
        "state": random.normal(size=(rows, 4)).astype(float32),
        "latent_mean": random.normal(size=(rows, 3)).astype(float32),
        "latent_std": random.random((rows, 3)).astype(float32),
        "reward": random.normal(size=rows).astype(float32),
        "discount": random.random(rows).astype(float32),
        "next_state": random.normal(size=(rows, 4)).astype(float32),
        "episode": np.arange(rows) // 7,
        "step": np.arange(rows) % 7,
        "validation": random.random(rows) < 0.2,
    }


def parts(rows: int = ROWS) -> dict[str, np.ndarray]:
    """Of latents that are valued for two more numbers of steps."""
    random = np.random.default_rng(1)
    return {
        "part_reward": random.normal(size=(rows, 2)).astype(np.float32),
        "part_state": random.normal(size=(rows, 2, 4)).astype(np.float32),
    }


def new_writer(store: Store, data: dict[str, np.ndarray], meta: Meta = META) -> LatentWriter:
    kinds = {name: (array.dtype, array.shape[1:]) for name, array in data.items()}
    return LatentWriter(store, meta, len(data["state"]), kinds)


def publish(store: Store, data: dict[str, np.ndarray], meta: Meta = META, step: int = 137) -> str:
    with new_writer(store, data, meta) as writer:
        for start in range(0, len(data["state"]), step):
            writer.write(start, **{name: a[start : start + step] for name, a in data.items()})
        return writer.publish()


@pytest.mark.parametrize("memory", [None, 0], ids=["memory", "disk"])
@pytest.mark.parametrize("chunk_bytes", [256, 1 << 20])
@pytest.mark.parametrize("valued", [False, True], ids=["", "valued"])
def test_the_table_comes_back_exactly(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    chunk_bytes: int,
    memory: int | None,
    valued: bool,
) -> None:
    monkeypatch.setattr(latent_writer, "CHUNK_BYTES", chunk_bytes)
    data = columns(300) | (parts(300) if valued else {})
    version = publish(store, data)
    table = open_latents(store, vae_version="aaaa", memory=memory)
    assert set(table.columns) == set(data)
    assert version == store.current("latents")
    assert store.meta("latents", version) == META
    for name, array in data.items():
        found = getattr(table, name)
        assert isinstance(found, np.memmap) == (memory == 0)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert store.find("latents", META.spec) == version
    assert store.find("latents", {"config": {"horizon": 4}}) is None


def test_shards_are_whole_and_chunks_large(store: Store) -> None:
    rows = 700_000
    version = _publish_rewards(store, rows)
    folder = store.key("latents", version) + "/reward"
    array = zarr.open_array(store.place.zarr(folder), mode="r")
    assert array.shards is not None
    assert array.chunks[0] * 4 >= 1 << 20
    assert array.shards[0] % array.chunks[0] == 0
    assert len(store.place.keys(f"{folder}/c")) == -(-rows // array.shards[0])


def _publish_rewards(store: Store, rows: int) -> str:
    with LatentWriter(store, META, rows, {"reward": (np.float32, ())}) as writer:
        for start in range(0, rows, 300_000):
            writer.write(start, reward=np.ones(min(300_000, rows - start)))
        return writer.publish()


def test_nothing_is_seen_before_publication(store: Store) -> None:
    data = columns()
    with new_writer(store, data) as writer:
        writer.write(0, **data)
        assert store.versions("latents") == []
        with pytest.raises(MissingArtifactError, match=r"no latents in .*`ldcq train vae`"):
            open_latents(store)
        writer.publish()
    assert store.current("latents") == writer.version
    assert len(open_latents(store)) == ROWS


def test_a_writer_that_gives_up_leaves_nothing(store: Store) -> None:
    data = columns()
    with new_writer(store, data) as writer:
        writer.write(0, **{name: array[:10] for name, array in data.items()})
    assert not [key for key in store.place.keys(store.key("latents")) if ".lock" not in key]
    assert publish(store, data) == writer.version


def test_latents_of_another_vae_are_refused(store: Store) -> None:
    version = publish(store, columns())
    with pytest.raises(
        LineageError, match=f"latents {version} were made by VAE aaaa, expected VAE bbbb"
    ):
        open_latents(store, vae_version="bbbb")


@pytest.mark.parametrize("damage", ["cut", "flip", "remove", "index", "column"])
def test_damage_is_found_and_repaired_by_writing_again(store: Store, damage: str) -> None:
    data = columns()
    version = publish(store, data)
    place, folder = store.place, store.key("latents", version)
    shard = f"{folder}/latent_mean/c/0/0"
    content = place.read(shard)
    assert content is not None
    match damage:
        case "cut":
            place.write(shard, content[: len(content) // 2])
        case "flip":
            place.write(shard, content[:100] + bytes([content[100] ^ 1]) + content[101:])
        case "remove":
            place.remove(shard)
        case "index":
            place.write(f"{folder}/zarr.json", b"{")
        case "column":
            place.remove(f"{folder}/latent_mean/zarr.json")
    with pytest.raises(
        CorruptArtifactError, match=r"delete the folder .* start the vae stage again"
    ):
        open_latents(store, version)
    assert publish(store, data) == version
    np.testing.assert_array_equal(open_latents(store).latent_mean, data["latent_mean"])


def test_publishing_the_same_table_again_changes_nothing(store: Store) -> None:
    data = columns()
    version = publish(store, data)
    witness = store.key("latents", version) + "/witness"
    store.place.write(witness, b"still the same folder")
    assert publish(store, data) == version
    assert store.place.read(witness)


def test_wrong_rows_are_refused(store: Store) -> None:
    data = columns(20)
    with new_writer(store, data) as writer:
        with pytest.raises(StoreError, match="start: got 5, expected 0"):
            writer.write(5, **data)
        with pytest.raises(StoreError, match=r"columns: got \['state'\]"):
            writer.write(0, state=data["state"])
        with pytest.raises(StoreError, match=r"reward: got shape \(20, 1\), expected \(20,\)"):
            writer.write(0, **{**data, "reward": data["reward"][:, None]})
        with pytest.raises(StoreError, match="0 of 20 rows written"):
            writer.publish()
        writer.write(0, **data)
        with pytest.raises(StoreError, match="expected at most 20 rows"):
            writer.write(20, **data)
    with pytest.raises(StoreError, match="kind: got 'vae'"):
        new_writer(store, data, Meta(kind="vae"))


def test_a_table_has_exactly_the_documented_columns() -> None:
    fields = dataclasses.fields(LatentTable)
    required = {field.name for field in fields if field.default is dataclasses.MISSING}
    assert required == {*columns(1)}
    assert {field.name for field in fields} - required == {*parts(1), "end_seen"}
