"""Is it made already? The one place that says which published version a configuration means.

Who makes an artifact asks for any version of its specification (`made_from`). Who builds on it asks
for the current ones (`made`), which are those that servers serve.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from common.stages import STAGES
from common.store.artifacts import Store
from common.store.errors import MissingArtifactError
from common.store.lineage import owning_variant, stage_sections, stage_spec
from common.store.meta import Meta
from ldcq.config import Config, resolve_variant


class NotMadeError(MissingArtifactError):
    """The store holds no artifact of this configuration.

    Attributes:
        kind: What is missing.
        owner: The variant whose it is.
        current: That variant's version, which was made with other settings or from other parents;
            None where there is none.
    """

    def __init__(self, url: str, kind: str, owner: str, current: str | None) -> None:
        self.kind, self.owner, self.current = kind, owner, current
        found = "one made with other settings or from other parents" if current else "none"
        super().__init__(
            f"{url}: needs the {kind} of {owner!r} made with this configuration, found {found}; "
            f"`ldcq run CONFIG --store {url}` makes it"
        )


def made(
    store: Store, base: Config, variant: str, kinds: Iterable[str], *, intact: bool = False
) -> dict[str, str]:
    """The current artifacts made with a configuration, from parents that were.

    After a change of configuration the artifacts of the one before are still there: a critic with
    the right settings may have been made from a VAE with the wrong ones.

    Args:
        store: Where they are.
        base: The configuration as loaded (the main pipeline's).
        variant: One of the pipelines that share the store.
        kinds: What is wanted, each after its `ancestors`.
        intact: Read them whole, unless they are large, so that a damaged one is found now.

    Returns:
        Their versions by kind.

    Raises:
        NotMadeError: For the first that is not there.
        CorruptArtifactError: One is damaged.
    """
    config = resolve_variant(base, variant)
    known: dict[str, str] = {}  # what all that follow must be made from
    for kind in kinds:
        owner = owning_variant(base, variant, kind)
        version = store.current(kind, owner)
        meta = None if version is None else _meta(store, kind, version, intact)
        if version is None or meta is None:
            raise NotMadeError(store.url, kind, owner, None)
        descends = all(meta.parents.get(name, parent) == parent for name, parent in known.items())
        if not descends or meta.spec.get("config") != stage_sections(config, kind):
            raise NotMadeError(store.url, kind, owner, version)
        known[kind] = version
    return known


def _meta(store: Store, kind: str, version: str, intact: bool) -> Meta | None:
    try:
        if intact and not STAGES[kind].large:
            return store.load(kind, version).meta
        return store.meta(kind, version)
    except MissingArtifactError:
        return None  # deleted by hand; the stage that makes it publishes it again


def made_from(
    store: Store, base: Config, variant: str, kind: str, parents: Mapping[str, str]
) -> str | None:
    """A version of `kind` made with a configuration from exactly these parents (see `stage_spec`),
    current or not; None where it is still to be made.
    """
    return store.find(kind, stage_spec(resolve_variant(base, variant), kind, parents))
