"""Offline reinforcement learning with latent diffusion: the method, as a library.

    policy = ldcq.load_policy("policy/")            # in this process, with torch
    policy = ldcq.connect("localhost:50051")        # served, without torch
    actions = policy.act(observations)              # (E, S) -> (E, A)

The method is in the modules: `vae`, `diffusion`, `gaussian`, `goals`, `critic` (Algorithm 1),
`world_model`, `bc` and `policies`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.rpc.policy import RemotePolicy as connect  # noqa: N813 - it is used as a function
    from ldcq.latent_prior import Draw, LatentPrior
    from ldcq.policies.folder import load_policy
    from ldcq.policy import Policy

__all__ = ["Draw", "LatentPrior", "Policy", "connect", "load_policy"]

_HOMES = {
    "Draw": ("ldcq.latent_prior", "Draw"),
    "LatentPrior": ("ldcq.latent_prior", "LatentPrior"),
    "Policy": ("ldcq.policy", "Policy"),
    "load_policy": ("ldcq.policies.folder", "load_policy"),
    # The one name from above: what it needs beside the method (gRPC) comes with the package.
    "connect": ("common.rpc.policy", "RemotePolicy"),
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is used first: `import ldcq` needs neither torch nor gRPC."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ldcq' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(f"ldcq.{name} needs torch: pip install 'ldcq[torch]'") from error
