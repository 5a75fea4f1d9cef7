"""A policy as a folder: JSON and safetensors, with all that acting needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ldcq.bc import Bc
from ldcq.config import Config, ConfigError
from ldcq.critic.critic import Critic
from ldcq.nn.model import Model
from ldcq.policies.base import StatefulPolicy
from ldcq.policies.by_name import PolicyName, make_policy
from ldcq.policies.costs import EUCLIDEAN, Cost
from ldcq.registry import find_prior
from ldcq.vae.frames import Frames
from ldcq.vae.model import Vae
from ldcq.world_model import WorldModel

FORMAT = 1
DESCRIPTION = "policy.json"


class PolicyFolderError(ValueError):
    """A folder that holds no policy, or part of one; the message says what is wrong with it."""


@dataclass(frozen=True)
class ExportedModel:
    """A model as it travels in a folder.

    Attributes:
        version: Of the artifact it comes from.
        implementation: The name that a prior is registered under.
        dimensions: `Model.dimensions` as a mapping.
        config: `Model.config` as a mapping.
    """

    version: str
    implementation: str
    dimensions: Mapping[str, int]
    config: Mapping[str, JsonValue]


def save_policy(
    folder: Path | str,
    policy: PolicyName,
    config: Config,
    models: Mapping[str, tuple[ExportedModel, Mapping[str, Any]]],
) -> None:
    """Writes a policy, whole or not at all.

    Args:
        folder: Made for it; must be new or empty.
        policy: Which.
        config: The pipeline's own configuration.
        models: By kind, each with its tensors by name.

    Raises:
        PolicyFolderError: The folder holds something already.
        OSError: The disk does not take it.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise PolicyFolderError(f"folder: {folder} is not empty, expected a new or empty one")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for kind, (_, tensors) in models.items():
            (partial / f"{kind}.safetensors").write_bytes(save(dict(tensors)))
        description = {
            "format": FORMAT,
            "policy": policy,
            "models": {kind: asdict(model) for kind, (model, _) in models.items()},
            "config": config.model_dump(mode="json"),
        }
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def load_policy(
    folder: Path | str,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    cost: Cost | None = None,
) -> StatefulPolicy:
    """A policy in this process, from a folder that `ldcq export` wrote.

    It answers what the actor service answers for the same seed, to the bit.

    Args:
        folder: Holds `policy.json` and a file of weights for every model.
        seed: Fixes everything that is drawn.
        device: Where it is computed.
        cost: What plans of `ldcp` are judged by; None: their distance to the goal. A function that
            `actor.planning.cost` names is not imported from here: pass it.

    Returns:
        The policy: `act(observations, goals)` and `reset(mask)`; `encode(frames)` where it learned
        from images.

    Raises:
        PolicyFolderError: The folder holds no whole policy.
        UnknownPriorError: Its prior's implementation is not installed.
        ConfigError: It plans by a function of a user's, and no `cost` is given.
    """
    folder = Path(folder)
    try:
        description = json.loads((folder / DESCRIPTION).read_text())
        if description["format"] != FORMAT:
            raise PolicyFolderError(
                f"{folder}: got format {description['format']!r}, expected {FORMAT}: export the "
                "policy with this version of ldcq"
            )
        config = Config.model_validate(description["config"])
        models = {
            kind: _rebuilt(folder, kind, ExportedModel(**fields), device)
            for kind, fields in description["models"].items()
        }
        named = config.actor.planning.cost
        if description["policy"] == "ldcp" and cost is None and named != EUCLIDEAN:
            raise ConfigError(
                f"cost: got none, expected the function that the policy was made with ({named})"
            )
        decoder = models["bc"] if "bc" in models else models["vae"]
        prior = models["prior"].sampler() if "prior" in models else None  # type: ignore[operator]
        policy = make_policy(
            description["policy"],
            config,
            decoder,  # type: ignore[arg-type]
            prior,
            models.get("critic"),  # type: ignore[arg-type]
            models.get("world_model"),  # type: ignore[arg-type]
            cost,
        )
    except (ConfigError, PolicyFolderError):
        raise
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise PolicyFolderError(
            f"{folder} holds no whole policy ({type(error).__name__}: {error}); expected a folder "
            "that `ldcq export` wrote"
        ) from error
    frames = models.get("frames")
    return StatefulPolicy(policy, seed, config.threads, frames)  # type: ignore[arg-type]


def _rebuilt(folder: Path, kind: str, exported: ExportedModel, device: torch.device | str) -> Model:
    classes: dict[str, type[Model]] = {
        "frames": Frames,
        "vae": Vae,
        "critic": Critic,
        "world_model": WorldModel,
        "bc": Bc,
    }
    model = find_prior(exported.implementation) if kind == "prior" else classes[kind]
    tensors = load_file(folder / f"{kind}.safetensors")
    return model.rebuild(exported.dimensions, exported.config, tensors, device)
