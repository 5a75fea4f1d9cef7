"""The assembled VAE and what travels in its artifact."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from common.store import Artifact, Meta, Store
from ldcq.config import Config, override
from ldcq.data.episodes import Spaces
from ldcq.data.statistics import Statistics, state_statistics
from ldcq.data.windows import Windows
from ldcq.vae.latent_policy import LatentPolicy, bounds_from_json, bounds_to_json
from ldcq.vae.model import Architecture, Vae


def publish(store: Store, vae: Vae) -> Artifact:
    meta = Meta(
        kind="vae", dimensions=vae.architecture.dimensions(), details=vae.architecture.details()
    )
    tensors = {name: value.numpy() for name, value in vae.state_dict().items()}
    return store.load("vae", store.publish(meta, tensors, ""))


def build(config: Config, spaces: Spaces) -> Vae:
    torch.manual_seed(0)
    statistics = Statistics(
        np.linspace(1, 2, spaces.state_dim, dtype=np.float32),
        np.linspace(2, 3, spaces.state_dim, dtype=np.float32),
    )
    return Vae(Architecture.from_config(config, spaces), statistics)


@pytest.mark.parametrize("encoder", ["gru", "mlp"])
def test_a_published_vae_is_rebuilt_from_its_artifact_alone(
    tmp_path: Path, config: Config, windows: Windows, encoder: str
) -> None:
    config = override(config, {"vae.encoder": encoder})
    vae = build(config, windows.episodes.spaces)
    artifact = publish(Store(tmp_path), vae)
    rebuilt = Vae.from_artifact(artifact)
    assert rebuilt.architecture == vae.architecture
    rows = np.arange(6)
    states = torch.from_numpy(windows.states(rows))
    actions = torch.from_numpy(windows.actions(rows))
    with torch.no_grad():
        for one, other in zip(
            rebuilt.encode(states, actions), vae.encode(states, actions), strict=True
        ):
            assert torch.equal(one, other)
    assert not any(parameter.requires_grad for parameter in rebuilt.parameters())

    policy = LatentPolicy.from_artifact(artifact)
    latents = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    acted = policy.act(states[:, 0], latents)
    with torch.no_grad():
        expected = vae.decoder.act(vae.state_normaliser(states[:, 0]), latents, None)
    assert torch.equal(acted, expected)
    assert (policy.version, policy.state_dim, policy.action_dim) == (
        artifact.version,
        2,
        windows.episodes.spaces.action_dim,
    )
    assert (policy.latent_dim, policy.horizon) == (4, config.horizon)
    assert policy.discrete_actions == windows.episodes.spaces.discrete_actions


def test_unbounded_actions_survive_the_artifact(tmp_path: Path, config: Config) -> None:
    vae = build(config, Spaces.box(3, [-np.inf, -0.5], [np.inf, 0.25]))
    with torch.no_grad():
        for name, value in vae.decoder.named_parameters():
            if name.endswith("mean.bias"):
                value.fill_(100.0)
    policy = LatentPolicy.from_artifact(publish(Store(tmp_path), vae))
    actions = policy.act(torch.zeros(1, 3), torch.zeros(1, 4))
    assert actions[0, 0] > 90
    assert actions[0, 1] == 0.25
    assert bounds_from_json(bounds_to_json([-math.inf, 1.5]), -math.inf) == [-math.inf, 1.5]


def test_the_encoder_sees_standardised_states(config: Config) -> None:
    spaces = Spaces.box(2, [-1, -1], [1, 1])
    vae = build(config, spaces)
    states, actions = torch.randn(3, 5, 2), torch.rand(3, 5, 2)
    raw = states * vae.state_normaliser.std + vae.state_normaliser.mean
    for one, other in zip(
        vae.encode(raw, actions), vae.encode_standardised(states, actions), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_discrete_actions_enter_the_encoder_as_one_hot(config: Config) -> None:
    vae = build(config, Spaces.discrete(2, 3))
    states = torch.zeros(3, 5, 2)
    actions = torch.arange(3).view(3, 1, 1).expand(3, 5, 1)
    seen: list[torch.Tensor] = []
    vae.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    vae.encode(states, actions)
    assert torch.equal(seen[0][:, :, 2:], torch.eye(3).view(3, 1, 3).expand(3, 5, 3))


def test_another_kind_or_missing_weights_are_refused(tmp_path: Path, config: Config) -> None:
    vae = build(config, Spaces.discrete(2, 3))
    artifact = publish(Store(tmp_path), vae)
    foreign = Artifact("x", Meta(kind="critic"), {})
    short = Artifact("x", artifact.meta, {"state_normaliser.mean": np.zeros(2, np.float32)})
    for load in (Vae.from_artifact, LatentPolicy.from_artifact):
        with pytest.raises(ValueError, match="expected 'vae'"):
            load(foreign)
        with pytest.raises(ValueError, match="state_normaliser"):
            load(short)


def test_statistics_of_the_data_standardise_the_training_states(
    config: Config, windows: Windows
) -> None:
    architecture = Architecture.from_config(config, windows.episodes.spaces)
    vae = Vae(architecture, state_statistics(windows))
    standardised = vae.state_normaliser(torch.from_numpy(windows.first_states(windows.training)))
    assert standardised.std(dim=0).min() > 0.5
    assert standardised.std(dim=0).max() < 2
