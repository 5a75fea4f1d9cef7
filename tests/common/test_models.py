"""A published model comes back, and no other kind in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from common.models import model_of, parts_of
from common.store import Store
from ldcq.bc import Bc
from ldcq.config import BcConfig
from ldcq.nn.model import Dimensions
from ldcq.vae.model import Vae


def test_a_model_comes_back_from_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    network = Bc(Dimensions(state=3, action=2, horizon=1), BcConfig(hidden=8))
    network.decoder.bound([-1.0, -torch.inf], [1.0, torch.inf])
    artifact = store.load("bc", store.publish(*parts_of(network, parents={"dataset": "d"}), ""))
    assert artifact.meta.parents == {"dataset": "d"}
    again = model_of(artifact, Bc)
    assert (again.dimensions, again.config) == (network.dimensions, network.config)
    for name, tensor in network.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    with pytest.raises(ValueError, match=f"{artifact.version} is of kind 'bc', expected 'vae'"):
        model_of(artifact, Vae)
