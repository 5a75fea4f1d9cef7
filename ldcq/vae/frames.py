"""The beta-VAE of single frames, whose latents are states where there are images (supplement C)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ldcq.config import Config, FramesConfig
from ldcq.config.section import Positive
from ldcq.data.episodes import DataError, Float, Pixels
from ldcq.data.windows import Windows
from ldcq.learning.captured import Tensors
from ldcq.learning.supervised import SupervisedLearner
from ldcq.nn.distributions import Gaussian, GaussianHead
from ldcq.nn.inference import inference
from ldcq.nn.mlp import mlp
from ldcq.nn.model import Dimensions, Model
from ldcq.vae.losses import kl_divergence

LEVELS = 255.0
"""The greatest value of a pixel, which is 1 here."""
MIN_STD = 1e-3
"""Of the posterior, so that its logarithm stays finite."""
VARIES = 1e-4
"""Frames whose values differ by less from their mean are all the same."""
FIRST_RAW_STD = -3.0
"""Of the posterior before any training, before the softplus: a standard deviation of 0.05."""
FRAMES_AT_ONCE = 512
"""Frames encoded at once, so that memory does not grow with their number."""


class FrameDimensions(Dimensions):
    """Sizes of a frame and of its latent."""

    height: Positive
    width: Positive
    channels: Positive


class Frames(Model):
    """q(z | x) and p(x | z) of one frame x, over z ~ N(0, I).

    Both see a frame as its difference from the mean frame of the training data, so that what never
    changes has not to be learned. The encoder sees it in units of its size, root mean square, and
    begins almost without noise: what changes may be small, and would be lost in it.

    Args:
        dimensions: Of a frame and its latent.
        config: The section `frames`.

    Raises:
        DataError: The sides of a frame cannot be halved by every convolution.
    """

    kind = "frames"
    Settings = FramesConfig
    Sizes = FrameDimensions
    dimensions: FrameDimensions
    config: FramesConfig
    mean_frame: Tensor
    scale: Tensor

    def __init__(self, dimensions: FrameDimensions, config: FramesConfig) -> None:
        super().__init__(dimensions, config)
        height, width, channels = dimensions.height, dimensions.width, dimensions.channels
        layers, factor = len(config.channels), 2 ** len(config.channels)
        if height % factor or width % factor:
            raise DataError(
                f"frames: got frames of {height} x {width}, expected sides that are multiples of "
                f"{factor}, as {layers} convolutions halve them: set frames.channels to fewer, or "
                "resize the frames"
            )
        widths = [channels, *config.channels]
        smallest = (widths[-1], height // factor, width // factor)
        features = int(np.prod(smallest))
        self.register_buffer("mean_frame", torch.zeros(channels, height, width))
        self.register_buffer("scale", torch.ones(()))
        self.convolutions = nn.Sequential(
            *_between(nn.Conv2d(a, b, 4, 2, 1) for a, b in pairwise(widths)),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.posterior = GaussianHead(features, config.hidden, dimensions.latent, MIN_STD)
        self.decoder = nn.Sequential(
            *mlp([dimensions.latent, config.hidden, features]),
            nn.ReLU(),
            nn.Unflatten(1, smallest),
            *_between(nn.ConvTranspose2d(b, a, 4, 2, 1) for a, b in reversed([*pairwise(widths)])),
        )
        for layer in self.convolutions:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        last = self.posterior.raw_std[-1]
        assert isinstance(last, nn.Linear)
        nn.init.constant_(last.bias, FIRST_RAW_STD)

    def fit_to(self, steps: Windows) -> None:
        """Takes over the mean of the training frames, and the root mean square of what they differ
        from it; 1 where all are the same.

        Args:
            steps: What is trained on.
        """
        total = torch.zeros_like(self.mean_frame, dtype=torch.float64)
        squares, count = torch.zeros_like(total), 0
        for rows in np.array_split(steps.training, -(-len(steps.training) // FRAMES_AT_ONCE)):
            images = steps.first_frames(rows)
            frames = self.tensor(images.reshape(-1, *images.shape[2:])).double()
            total, squares = total + frames.sum(dim=0), squares + frames.square().sum(dim=0)
            count += len(frames)
        mean = total / count
        variance = (squares / count - mean.square()).mean()
        self.mean_frame.copy_(mean)
        self.scale.copy_(variance.sqrt() if variance > VARIES**2 else torch.ones(()))

    def forward(self, frames: Tensor) -> Gaussian:
        """q(z | x).

        Args:
            frames: Values in [0, 1], shape (B, C, H, W).

        Returns:
            The posterior over (B, Z).
        """
        gaussian: Gaussian = self.posterior(
            self.convolutions((frames - self.mean_frame) / self.scale)
        )
        return gaussian

    def decode(self, latents: Tensor) -> Tensor:
        """The mean of p(x | z) for latents (B, Z), shape (B, C, H, W), around [0, 1]."""
        frames: Tensor = self.mean_frame + self.decoder(latents)
        return frames

    def tensor(self, frames: Pixels) -> Tensor:
        """Frames (B, H, W, C), or (B, C, H, W), as values in [0, 1], shape (B, C, H, W).

        Raises:
            ValueError: They are of another size or type.
        """
        size = self.dimensions
        last = (size.height, size.width, size.channels)
        first = (size.channels, size.height, size.width)
        shape, dtype = np.shape(frames), getattr(frames, "dtype", type(frames))
        if len(shape) != 4 or shape[1:] not in (last, first) or dtype != np.uint8:
            raise ValueError(
                f"frames: got {dtype} of shape {shape}, expected uint8 of shape "
                f"(E, {', '.join(map(str, last))}) or (E, {', '.join(map(str, first))}), the size "
                "that the stage frames learned"
            )
        pixels = torch.tensor(frames, device=self.mean_frame.device)
        if shape[1:] == last:
            pixels = pixels.permute(0, 3, 1, 2)
        return pixels.float() / LEVELS

    @inference()
    def encode(self, frames: Pixels) -> Float:
        """The vectors that stand for frames in states: means of q(z | x).

        Args:
            frames: Shape (E, H, W, C), or (E, C, H, W), uint8.

        Returns:
            Shape (E, Z), float32.

        Raises:
            ValueError: They are of another size than those it learned from, or of another type.
        """
        starts = range(0, max(len(frames), 1), FRAMES_AT_ONCE)
        blocks = [
            self(self.tensor(frames[start : start + FRAMES_AT_ONCE])).mean for start in starts
        ]
        return torch.cat(blocks).cpu().numpy()


def frames_loss(frames: Tensor, decoded: Tensor, kl: Tensor, beta: float) -> Tensor:
    """Minus the evidence lower bound of a beta-VAE whose decoder has unit variance, without its
    constant: mean over B of |x - x'|^2 / 2 + beta KL(q(z | x) || N(0, I)).

    Args:
        frames: x, shape (B, C, H, W).
        decoded: x', the mean of p(x | z) for one sample z of q(z | x), of the same shape.
        kl: Shape (B,).
        beta: Weight of the KL term.

    Returns:
        A scalar.
    """
    error = (frames - decoded).square().flatten(1).sum(dim=1)
    return error.mean() / 2 + beta * kl.mean()


class FramesLearner(SupervisedLearner):
    """Minimises `frames_loss` over the frames of single steps of the data.

    Attributes:
        model: What is trained.
    """

    validation_rows = 1024

    def __init__(self, config: Config, steps: Windows, device: torch.device) -> None:
        """Initialises the networks from torch's global random state.

        Args:
            config: The resolved configuration, with a section `frames`.
            steps: The data as windows of one step, with images.
            device: Where to compute.

        Raises:
            DataError: The convolutions do not take frames of that size.
        """
        settings = config.frames
        assert settings is not None, "a configuration without frames"
        _, height, width, channels = steps.episodes.spaces.frames
        size = FrameDimensions(
            height=height, width=width, channels=channels, latent=settings.latent_dim
        )
        self.model = Frames(size, settings)
        self.model.fit_to(steps)
        super().__init__(self.model.to(device), settings, steps, config.seed)
        self._beta, self._steps, self._device = settings.beta, steps, device

    def inputs(
        self, rows: NDArray[np.int64], share: slice, random: torch.Generator
    ) -> dict[str, Tensor]:
        """The frames of some steps, (F, C, H, W), and noise for z, (F, Z)."""
        images = self._steps.first_frames(rows[share])
        noise = torch.randn(
            len(rows), *images.shape[1:2], self.model.dimensions.latent, generator=random
        )
        return {
            "frames": self.model.tensor(images.reshape(-1, *images.shape[2:])),
            "noise": noise[share].flatten(0, 1).to(self._device),
        }

    def metrics(self, inputs: Tensors) -> dict[str, Tensor]:
        """Means over the frames of some steps.

        Returns:
            `loss`; `mse`: the squared error per value in [0, 1]; `kl`: in nats.
        """
        frames = inputs["frames"]
        posterior = self.model(frames)
        decoded = self.model.decode(posterior.sample(inputs["noise"]))
        standard = Gaussian(torch.zeros_like(posterior.mean), torch.ones_like(posterior.std))
        kl = kl_divergence(posterior, standard)
        return {
            "loss": frames_loss(frames, decoded, kl, self._beta),
            "mse": (frames - decoded).detach().square().mean(),
            "kl": kl.detach().mean(),
        }


def _between(layers: Iterable[nn.Module]) -> list[nn.Module]:
    """Layers with a ReLU between each two."""
    return [module for layer in layers for module in (layer, nn.ReLU())][:-1]
