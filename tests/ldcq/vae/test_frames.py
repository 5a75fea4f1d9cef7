"""The beta-VAE of frames: its loss, its shapes, what training does, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from common.training import Checkpoints
from ldcq.config import Config, FramesConfig, override
from ldcq.data.episodes import DataError, Episode, Pixels, Spaces, join_episodes
from ldcq.data.windows import Windows, make_windows
from ldcq.nn.distributions import Gaussian
from ldcq.policies.base import StatefulPolicy
from ldcq.vae.frames import FrameDimensions, Frames, FramesLearner, frames_loss
from ldcq.vae.losses import kl_divergence

CPU = torch.device("cpu")


@pytest.fixture
def config() -> Config:
    section = {"latent_dim": 3, "channels": [8, 8], "hidden": 16, "epochs": 4}
    fitting = {"learning_rate": 2e-3, "batch_size": 16}
    return override(Config(), {"seed": 3, "frames": {**section, **fitting}})


def dots(positions: np.ndarray, size: int = 16) -> Pixels:
    """A bright square of 4 x 4 pixels on dark ground, somewhere along the diagonal."""
    images = np.full((len(positions), size, size, 3), 40, np.uint8)
    for image, position in zip(images, positions, strict=True):
        image[position : position + 4, position : position + 4] = 220
    return images


@pytest.fixture
def steps() -> Windows:
    """Single steps of episodes in which the square wanders."""
    random, parts = np.random.default_rng(0), []
    for _ in range(8):
        images = dots(random.integers(0, 13, 13))[:, None]
        ends = np.arange(12) == 11
        nothing = np.zeros((13, 0), np.float32), np.zeros((12, 1)), np.zeros(12)
        parts.append(Episode(*nothing, ~ends & ends, ends, frames=images))
    spaces = replace(Spaces.box(0, [-1], [1]), frames=(1, 16, 16, 3))
    return make_windows(join_episodes(parts, spaces, "dots"), 1, 0.2, 0)


def model(height: int, width: int, channels: int) -> Frames:
    size = FrameDimensions(height=height, width=width, channels=channels, latent=5)
    return Frames(size, FramesConfig(channels=(4, 4, 4, 4)))


def test_the_loss_is_that_of_numpy() -> None:
    random = np.random.default_rng(0)
    frames, decoded = random.random((2, 6, 3, 4, 4))
    mean, std = random.standard_normal((6, 5)), random.random((6, 5)) + 0.1
    posterior = Gaussian(torch.tensor(mean), torch.tensor(std))
    standard = Gaussian(torch.zeros(6, 5), torch.ones(6, 5))
    kl = kl_divergence(posterior, standard)
    wanted_kl = 0.5 * (std**2 + mean**2 - 1 - np.log(std**2)).sum(axis=1)
    np.testing.assert_allclose(kl.numpy(), wanted_kl)
    found = frames_loss(torch.tensor(frames), torch.tensor(decoded), kl, 0.3)
    error = ((frames - decoded) ** 2).sum(axis=(1, 2, 3))
    assert float(found) == pytest.approx((0.5 * error + 0.3 * wanted_kl).mean())


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(48, 48, 3), (64, 64, 1), (96, 32, 4), (16, 16, 2)]
)
def test_frames_of_many_sizes_become_latents_and_frames_again(
    height: int, width: int, channels: int
) -> None:
    network = model(height, width, channels)
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (3, height, width, channels)).astype(np.uint8)
    latents = network.encode(frames)
    assert latents.shape == (3, 5)
    assert latents.dtype == np.float32
    assert network.decode(torch.from_numpy(latents)).shape == (3, channels, height, width)
    first = np.moveaxis(frames, -1, 1)
    np.testing.assert_array_equal(network.encode(first), latents)
    np.testing.assert_array_equal(network.tensor(frames).numpy() * 255, first)


def test_a_frame_is_encoded_alike_alone_and_among_others() -> None:
    network = model(16, 16, 3)
    frames = dots(np.arange(13).repeat(50))
    found = network.encode(frames)
    assert len(found) == 650
    np.testing.assert_array_equal(found, network.encode(frames))
    np.testing.assert_allclose(network.encode(frames[600:601]), found[600:601], atol=1e-5)
    assert network.encode(frames[:0]).shape == (0, 5)


def test_frames_of_another_size_or_type_are_refused() -> None:
    network = model(48, 48, 3)
    refused: list[tuple[Any, str]] = [
        (np.zeros((2, 64, 64, 3), np.uint8), r"uint8 of shape \(2, 64, 64, 3\)"),
        (np.zeros((48, 48, 3), np.uint8), r"uint8 of shape \(48, 48, 3\)"),
        (np.zeros((2, 48, 48, 3), np.float32), "float32"),
    ]
    for frames, given in refused:
        expected = rf"frames: got {given}.* expected uint8 of shape \(E, 48, 48, 3\) or \(E, 3"
        with pytest.raises(ValueError, match=expected):
            network.encode(frames)
    with pytest.raises(DataError, match=r"84 x 84, expected sides that are multiples of 16"):
        model(84, 84, 3)
    two = FramesConfig(channels=(8, 8))
    fitting = Frames(FrameDimensions(height=84, width=84, channels=3, latent=5), two)
    assert fitting.encode(np.zeros((1, 84, 84, 3), np.uint8)).shape == (1, 5)


def test_a_policy_without_frames_encodes_none() -> None:
    policy = StatefulPolicy(cast(Any, None))
    with pytest.raises(ValueError, match="learned from observations without images"):
        policy.encode(np.zeros((1, 16, 16, 3), np.uint8))


def test_training_makes_frames_of_latents(config: Config, steps: Windows) -> None:
    learner = FramesLearner(override(config, {"frames.epochs": 60}), steps, CPU)
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    first = learner.validate()
    metrics = [learner.update(step) for step in range(learner.total)]
    assert metrics[0].keys() == {"loss", "mse", "kl", "learning_rate"}
    last = learner.validate()
    assert float(last["loss"]) < 0.5 * float(first["loss"])
    after = learner.model.state_dict()
    unmoved = {name for name in before if torch.equal(before[name], after[name])}
    assert unmoved == {"mean_frame", "scale"}
    # Where the square is can be read off the latents, and is drawn from them.
    there = dots(np.array([1, 6, 11]))
    drawn = learner.model.decode(torch.from_numpy(learner.model.encode(there)))
    apart = (drawn[:, None] - learner.model.tensor(there)).square().sum(dim=(2, 3, 4))
    assert apart.argmin(dim=1).tolist() == [0, 1, 2]


def test_one_update_goes_down_the_loss(config: Config, steps: Windows) -> None:
    learner = FramesLearner(override(config, {"frames.batch_size": 64}), steps, CPU)
    before = float(learner.validate()["loss"])
    learner.update(0)
    assert float(learner.validate()["loss"]) < before


def test_it_knows_the_mean_and_the_size_of_changes(config: Config, steps: Windows) -> None:
    network = FramesLearner(config, steps, CPU).model
    frames = network.tensor(steps.first_frames(steps.training)[:, 0])
    torch.testing.assert_close(network.mean_frame, frames.mean(dim=0))
    deviation = (frames - frames.mean(dim=0)).square().mean().sqrt()
    torch.testing.assert_close(network.scale, deviation)
    still = replace(steps.episodes, frames=np.full_like(steps.episodes.frames, 7))
    network.fit_to(replace(steps, episodes=still))
    assert float(network.scale) == 1
    assert np.isfinite(network.encode(np.full((1, 16, 16, 3), 8, np.uint8))).all()


def test_two_images_a_step_are_both_learned_from(config: Config, steps: Windows) -> None:
    one = steps.episodes.frames
    assert one is not None
    episodes = replace(
        steps.episodes,
        frames=np.concatenate([one, one[::-1]], axis=1),
        spaces=replace(steps.episodes.spaces, frames=(2, 16, 16, 3)),
    )
    learner = FramesLearner(config, replace(steps, episodes=episodes), CPU)
    assert np.isfinite(float(learner.update(0)["loss"]))


def test_updates_saved_and_loaded_go_on_bit_for_bit(
    config: Config, steps: Windows, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = FramesLearner(config, steps, CPU)
    torch.manual_seed(0)
    first = FramesLearner(config, steps, CPU)
    for step in range(8):
        whole.update(step)
    for step in range(4):
        first.update(step)
    Checkpoints(tmp_path, "frames", {}, keep=1).save(4, first.state_dict())
    torch.manual_seed(9)
    second = FramesLearner(config, steps, CPU)
    loaded = Checkpoints(tmp_path, "frames", {}, keep=1).latest()
    assert loaded is not None
    second.load_state_dict(loaded[1])
    for step in range(4, 8):
        second.update(step)
    resumed = second.model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed[name]), name
