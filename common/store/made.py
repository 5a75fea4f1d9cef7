"""Is it made already? The one place that says which published version a configuration means.

It is one with the configuration's settings, made from the data that are there now and from the
parents that the configuration means; of several, the current one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from pydantic import JsonValue

from common.stages import STAGES, ancestors
from common.store.artifacts import Store
from common.store.errors import MissingArtifactError, StoreError
from common.store.lineage import owning_variant, stage_sections, stage_spec
from common.store.meta import Meta
from ldcq.config import Config, resolve_variant

SHOWN = 3
"""Settings in a message that says which differ."""


class NotMadeError(MissingArtifactError):
    """The store holds no artifact of this configuration.

    Attributes:
        kind: What is missing.
        owner: The variant whose it is.
        current: That variant's version, which is another one; None where there is none.
        why: What is different about that version; empty where there is none.
    """

    def __init__(
        self, store: Store, kind: str, owner: str, current: str | None = None, why: str = ""
    ) -> None:
        self.kind, self.owner, self.current, self.why = kind, owner, current, why
        found = f"one made {why}" if current else "none"
        advice = f"`ldcq run CONFIG --store {store.url}` makes it"
        if not store.writable:
            advice = "`ldcq run CONFIG` with a store that can be written makes it"
        super().__init__(
            f"{store.url}: needs the {kind} of {owner!r} made with this configuration, found "
            f"{found}; {advice}"
        )


class _Wanted(NamedTuple):
    kind: str
    owner: str
    sections: dict[str, JsonValue]


def made(
    store: Store,
    base: Config,
    variant: str,
    kinds: Iterable[str],
    *,
    dataset: str | None = None,
    intact: bool = False,
) -> dict[str, str]:
    """The artifacts made with a configuration, from parents that were.

    After a change of configuration or data the artifacts of before are still there: a critic with
    the right settings may have been made from a VAE with the wrong ones.

    Args:
        store: Where they are.
        base: The configuration as loaded (the main pipeline's).
        variant: One of the pipelines that share the store.
        kinds: What is wanted, each after its `ancestors`.
        dataset: Fingerprint of the data that they must descend from; None: any.
        intact: Read them whole, unless they are large, so that a damaged one is found now.

    Returns:
        Their versions by kind.

    Raises:
        NotMadeError: For the first that is not there.
        CorruptArtifactError: A current one is damaged.
    """
    known = {} if dataset is None else {"dataset": dataset}
    return _chain(store, _wanted(base, variant, kinds), known, intact)


def made_from(
    store: Store, base: Config, variant: str, kind: str, parents: Mapping[str, str]
) -> str | None:
    """A version of `kind` made with a configuration from exactly these parents (see `stage_spec`),
    the current one if it is; None where it is still to be made.
    """
    current = store.current(kind, owning_variant(base, variant, kind))
    spec = stage_spec(resolve_variant(base, variant), kind, parents)
    return store.find(kind, spec, current)


def meant(store: Store, base: Config, variant: str, kind: str) -> Callable[[], str | None]:
    """Looks up, as often as it is called, the version of `kind` that a configuration means; the
    current one of its owner where none was made with it.
    """
    owner = owning_variant(base, variant, kind)
    own = resolve_variant(base, variant)
    wanted = _wanted(base, variant, (*ancestors(kind, own), kind))

    def look_up() -> str | None:
        try:
            return _chain(store, wanted, {})[kind]
        except NotMadeError:
            return store.current(kind, owner)

    return look_up


def _wanted(base: Config, variant: str, kinds: Iterable[str]) -> list[_Wanted]:
    config = resolve_variant(base, variant)
    return [
        _Wanted(kind, owning_variant(base, variant, kind), stage_sections(config, kind))
        for kind in kinds
    ]


def _chain(
    store: Store, wanted: Sequence[_Wanted], known: Mapping[str, str], intact: bool = False
) -> dict[str, str]:
    """The first whole chain of what is wanted, made from what is `known`."""
    if not wanted:
        return {}
    first, *rest = wanted
    missing: NotMadeError | None = None
    for version in _versions(store, first, known, intact):
        try:
            after = _chain(store, rest, {**known, first.kind: version}, intact)
        except NotMadeError as error:
            missing = missing or error
        else:
            return {first.kind: version, **after}
    if missing is None:
        current = store.current(first.kind, first.owner)
        meta = None if current is None else _meta(store, first.kind, current)
        if meta is None:
            raise NotMadeError(store, first.kind, first.owner)
        raise NotMadeError(store, first.kind, first.owner, current, _why(meta, first, known))
    raise missing


def _versions(
    store: Store, wanted: _Wanted, known: Mapping[str, str], intact: bool
) -> Iterator[str]:
    """The versions that are as wanted and made from what is known, the current one first. Where the
    data are unknown, they are those of the current one.
    """
    kind, current = wanted.kind, store.current(wanted.kind, wanted.owner)
    meta = None if current is None else _meta(store, kind, current)
    if current is not None and meta is not None and not _why(meta, wanted, known):
        if intact and not STAGES[kind].large:
            store.load(kind, current)
        yield current
        known = {**meta.parents, **known}
    for version, other in store.metas(kind):
        if version != current and not _why(other, wanted, known):
            try:
                if intact and not STAGES[kind].large:
                    store.load(kind, version)
            except StoreError:
                continue
            yield version


def _meta(store: Store, kind: str, version: str) -> Meta | None:
    try:
        return store.meta(kind, version)
    except MissingArtifactError:
        return None  # deleted by hand; the stage that makes it publishes it again


def _why(meta: Meta, wanted: _Wanted, known: Mapping[str, str]) -> str:
    """What makes it another artifact than the one that is wanted; empty: nothing."""
    given = meta.spec.get("config")
    if given != wanted.sections:
        differences = list(_differences(given, wanted.sections))
        more = f" and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        return f"with other settings ({', '.join(differences[:SHOWN])}{more})"
    others = [name for name, it in known.items() if meta.parents.get(name, it) != it]
    if others:
        return "from other data" if "dataset" in others else f"from another {others[0]}"
    return ""


def _differences(given: JsonValue, wanted: JsonValue, path: str = "") -> Iterator[str]:
    """The settings that differ, by their paths."""
    if isinstance(given, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(key for key in given if key not in wanted)]:
            yield from _differences(
                given.get(key), wanted.get(key), f"{path}.{key}" if path else key
            )
    elif given != wanted:
        yield f"{path} {given}, expected {wanted}" if path else "unknown ones"
