"""`ldcq export`: the policy of a trained store as a folder that `ldcq.load_policy` reads."""

from __future__ import annotations

from pathlib import Path

from cli.supervisor import RunError
from common.stages import needed_kinds, needed_stages
from common.store import Store, made
from common.store.served import SERVED
from ldcq.config import Config, resolve_variant
from ldcq.policies.folder import ExportedModel, save_policy


def export(store: Store, base: Config, method: str | None, folder: Path) -> str:
    """Writes a method's policy into a folder.

    Args:
        store: Holds the models of this configuration.
        base: The configuration as loaded.
        method: A key of `evaluation.methods`; None: the first that acts.
        folder: New or empty.

    Returns:
        The method.

    Raises:
        RunError: No such method, it does not act, or its prior is served by others.
        NotMadeError: One of its models is not there.
        PolicyFolderError: The folder holds something already.
    """
    acting = {
        name: settings
        for name, settings in base.evaluation.methods.items()
        if settings.policy != "behaviour"
    }
    chosen = next(iter(acting), "") if method is None else method
    if chosen not in acting:
        known = ", ".join(acting) or "none"
        raise RunError(f"--method {chosen}: expected a method of the configuration ({known})")
    policy, variant = acting[chosen].policy, acting[chosen].variant
    assert policy != "behaviour"
    config = resolve_variant(base, variant)
    versions = made(store, base, variant, needed_kinds(policy, config))
    models = {}
    for kind in needed_stages(policy, config):
        artifact = store.load(kind, versions[kind])
        meta = artifact.meta
        if SERVED in meta.parents:
            raise RunError(
                f"the prior {meta.implementation!r} of {chosen} is served by another program and "
                "is not in the store; use ldcq.connect with an actor"
            )
        exported = ExportedModel(
            artifact.version, meta.implementation, meta.dimensions, meta.details
        )
        models[kind] = (exported, artifact.tensors)
    save_policy(folder, policy, config, models)
    return chosen
