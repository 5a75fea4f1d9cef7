"""From a model to an artifact, and back."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import torch

from common.store import Artifact, Meta
from ldcq.nn.model import Model
from ldcq.prior import Sampler
from ldcq.registry import find_prior

AnyModel = TypeVar("AnyModel", bound=Model)


def parts_of(model: Model, **origin: Any) -> tuple[Meta, dict[str, np.ndarray]]:
    """What an artifact holds of a trained model, which `model_of` has back; `origin` are the fields
    of `Meta` that no model knows: `spec`, `parents`, `implementation`.
    """
    meta = Meta(
        kind=model.kind,
        dimensions=model.dimensions.model_dump(),
        details=model.config.model_dump(mode="json"),
        **origin,
    )
    return meta, {name: value.cpu().numpy() for name, value in model.state_dict().items()}


def model_of(
    artifact: Artifact, model: type[AnyModel], device: torch.device | str = "cpu"
) -> AnyModel:
    """The model of this class as published: frozen, in evaluation mode.

    Raises:
        ValueError: The artifact is of another kind, or its content does not make a `model`.
    """
    meta = artifact.meta
    if meta.kind != model.kind:
        raise ValueError(
            f"artifact {artifact.version} is of kind {meta.kind!r}, expected {model.kind!r}"
        )
    return model.rebuild(meta.dimensions, meta.details, artifact.tensors, device)


def sampler_of(artifact: Artifact, device: torch.device | str = "cpu") -> Sampler:
    """A published prior, ready to draw from.

    Raises:
        UnknownPriorError: Its implementation is not installed here.
        ValueError: As `model_of`.
    """
    return model_of(artifact, find_prior(artifact.meta.implementation), device).sampler()
