"""One answer to the question whether something is made already."""

from __future__ import annotations

import pytest

from common.store import (
    CorruptArtifactError,
    Meta,
    NotMadeError,
    Store,
    made,
    made_from,
    meant,
    stage_spec,
)
from ldcq.config import Config, load, override

KINDS = ("vae", "latents", "prior")


def publish(store: Store, config: Config, kind: str, parents: dict[str, str], n: int = 0) -> str:
    spec = stage_spec(config, kind, parents)
    meta = Meta(kind=kind, spec=spec, parents=parents, details={"number": n})
    if kind != "latents":
        return store.publish(meta, {}, "")
    version = f"of-{parents['vae']}"  # its meta, without the table
    store.place.add(store.key(kind, version), {"meta.json": meta.model_dump_json().encode()})
    store.point(kind, version)
    return version


def publish_all(store: Store, config: Config) -> dict[str, str]:
    vae = publish(store, config, "vae", {"dataset": "d"})
    latents = publish(store, config, "latents", {"vae": vae, "dataset": "d"})
    prior = publish(store, config, "prior", {"vae": vae, "latents": latents})
    return {"vae": vae, "latents": latents, "prior": prior}


def test_what_is_made_is_found_with_its_parents(store: Store) -> None:
    config = load("demo")
    versions = publish_all(store, config)
    assert made(store, config, "main", KINDS) == versions
    assert made(store, config, "bcq_h", KINDS[:2]) == {kind: versions[kind] for kind in KINDS[:2]}
    with pytest.raises(NotMadeError, match=r"needs the prior of 'bcq_h'.*found none"):
        made(store, config, "bcq_h", KINDS)


@pytest.mark.parametrize(
    ("key", "kind"), [("vae.epochs", "vae"), ("discount", "latents"), ("prior.epochs", "prior")]
)
def test_the_first_that_another_configuration_made_is_named(
    store: Store, key: str, kind: str
) -> None:
    config = load("demo")
    versions = publish_all(store, config)
    changed = override(config, {key: 0.5 if key == "discount" else 3})
    with pytest.raises(NotMadeError, match=f"needs the {kind} of 'main'.*other settings") as caught:
        made(store, changed, "main", KINDS)
    assert (caught.value.kind, caught.value.owner) == (kind, "main")
    assert caught.value.current == versions[kind]


def test_a_whole_chain_is_found_whatever_is_current(store: Store) -> None:
    config = load("demo")
    versions = publish_all(store, config)
    newer = publish(store, config, "vae", {"dataset": "d"}, n=1)
    assert made(store, config, "main", ["vae"]) == {"vae": newer}
    assert made(store, config, "main", KINDS) == versions
    latents = publish(store, config, "latents", {"vae": newer, "dataset": "d"})
    with_prior = publish(store, config, "prior", {"vae": newer, "latents": latents})
    assert made(store, config, "main", KINDS)["prior"] == with_prior
    store.point("vae", versions["vae"])
    assert made(store, config, "main", KINDS) == versions
    # Who makes it takes the current one, if it is one of those.
    for version in (newer, versions["vae"]):
        store.point("vae", version)
        assert made_from(store, config, "main", "vae", {"dataset": "d"}) == version
    assert made_from(store, config, "main", "vae", {"dataset": "e"}) is None
    assert made_from(store, config, "main", "vae", {}) is None


def test_an_older_configuration_is_found_though_another_is_current(store: Store) -> None:
    config = load("demo")
    versions = publish_all(store, config)
    other = override(config, {"vae.epochs": 3})
    newer = publish_all(store, other)
    assert made(store, config, "main", KINDS) == versions
    serving, following = meant(store, config, "main", "prior"), meant(store, other, "main", "prior")
    assert (serving(), following()) == (versions["prior"], newer["prior"])
    unknown = meant(store, override(config, {"seed": 9}), "main", "prior")
    assert unknown() == newer["prior"] == store.current("prior")


def test_what_was_made_from_other_data_is_not_taken(store: Store) -> None:
    config = load("demo")
    versions = publish_all(store, config)
    assert made(store, config, "main", KINDS, dataset="d") == versions
    with pytest.raises(NotMadeError, match=r"needs the vae of .main.*one made from other data"):
        made(store, config, "main", KINDS, dataset="e")
    newer = publish(store, config, "vae", {"dataset": "e"})
    assert made(store, config, "main", ["vae"], dataset="e") == {"vae": newer}
    with pytest.raises(NotMadeError, match=r"latents.*one made from other data"):
        made(store, config, "main", KINDS, dataset="e")
    assert made(store, config, "main", KINDS, dataset="d") == versions
    # Where the data cannot be seen, they are those of the current VAE.
    with pytest.raises(NotMadeError, match=r"latents.*one made from another vae"):
        made(store, config, "main", KINDS)
    store.point("vae", versions["vae"])
    assert made(store, config, "main", KINDS) == versions


def test_the_settings_that_differ_are_named(store: Store) -> None:
    config = load("demo")
    publish_all(store, config)
    changed = override(config, {"vae.epochs": 3, "vae.hidden": 7, "seed": 9, "vae.latent_dim": 2})
    said = r"with other settings \(seed 0, expected 9, vae.latent_dim .*, expected 2, .* and 1 more"
    with pytest.raises(NotMadeError, match=said):
        made(store, changed, "main", KINDS)


def test_a_damaged_one_is_found_where_it_is_asked_for(store: Store) -> None:
    config = load("demo")
    versions = publish_all(store, config)
    store.place.write(f"{store.key('vae', versions['vae'])}/weights.safetensors", b"x")
    assert made(store, config, "main", KINDS) == versions
    with pytest.raises(CorruptArtifactError, match="start the vae stage again"):
        made(store, config, "main", KINDS, intact=True)
