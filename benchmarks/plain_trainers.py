"""The VAE's and the prior's training as it reads, in straightforward PyTorch: what `ldcq bench
training` compares with.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ldcq.config import Config
from ldcq.data.latents import LatentTable
from ldcq.data.windows import Windows
from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.options import DiffusionOptions
from ldcq.diffusion.schedule import alpha_bars, min_snr_weights
from ldcq.nn.mlp import mlp
from ldcq.vae.conditional_prior import ConditionalPrior
from ldcq.vae.encoder import make_encoder

Item = tuple[Tensor, ...]


class WindowDataset(Dataset[Item]):
    """One window at a time, cut out and copied: states (H, S) and actions (H, A)."""

    def __init__(self, windows: Windows) -> None:
        self._windows, self._rows = windows, windows.training

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Item:
        windows, row = self._windows, self._rows[index]
        start, horizon = int(windows.starts[row]), windows.horizon
        first = start + int(windows.episode[row])
        states = windows.episodes.observations[first : first + horizon].copy()
        return torch.from_numpy(states), torch.tensor(
            windows.episodes.actions[start : start + horizon]
        )


class LatentDataset(Dataset[Item]):
    """One pair at a time: state (S,), mean and deviation of q(z | tau), (Z,)."""

    def __init__(self, table: LatentTable) -> None:
        self._columns = (table.state, table.latent_mean, table.latent_std)

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, index: int) -> Item:
        return tuple(torch.tensor(column[index]) for column in self._columns)


class PlainDecoder(nn.Module):
    """A.2.1: an MLP and two heads for every action dimension, one after the other."""

    def __init__(self, inputs: int, actions: int, hidden: int, min_std: float) -> None:
        super().__init__()
        sizes = [inputs + index for index in range(actions)]
        self.trunks = nn.ModuleList(
            nn.Sequential(mlp([size, hidden, hidden]), nn.ReLU()) for size in sizes
        )
        self.means = nn.ModuleList(mlp([hidden, hidden, 1]) for _ in sizes)
        self.stds = nn.ModuleList(mlp([hidden, hidden, 1]) for _ in sizes)
        self._min_std = min_std

    def forward(self, states: Tensor, latents: Tensor, actions: Tensor) -> Tensor:
        """Log pi(a | s, z), (..., A) to (...)."""
        parts = []
        for index, (trunk, mean, std) in enumerate(
            zip(self.trunks, self.means, self.stds, strict=True)
        ):
            features = trunk(torch.cat([states, latents, actions[..., :index]], dim=-1))
            policy = Normal(mean(features), functional.softplus(std(features)) + self._min_std)
            element = actions[..., index : index + 1]
            parts.append(policy.log_prob(element))  # type: ignore[no-untyped-call]
        return torch.cat(parts, dim=-1).sum(-1)


class PlainVae:
    """Adam on Eq. 4, all H steps decoded."""

    def __init__(self, config: Config, windows: Windows) -> None:
        spaces, settings = windows.episodes.spaces, config.vae
        states, actions, latents = spaces.state_dim, spaces.action_dim, settings.latent_dim
        self._config = config
        self.encoder = make_encoder(
            settings.encoder, states + actions, config.horizon, settings.hidden, latents
        )
        self.prior = ConditionalPrior(states, settings.hidden, latents)
        self.decoder = PlainDecoder(
            states + latents, actions, settings.decoder_hidden, settings.min_std
        )
        observations = torch.from_numpy(windows.episodes.observations)
        self._mean, self._std = observations.mean(0), observations.std(0)
        networks: list[nn.Module] = [self.encoder, self.prior, self.decoder]
        self._optimiser = torch.optim.Adam(
            [p for network in networks for p in network.parameters()], lr=settings.learning_rate
        )
        self._loader = _forever(
            DataLoader(WindowDataset(windows), settings.batch_size, shuffle=True, drop_last=True)
        )

    def update(self, _: int) -> None:
        """One step."""
        states, actions = next(self._loader)
        states = (states - self._mean) / self._std
        posterior = Normal(*self.encoder(torch.cat([states, actions], dim=-1)))
        latent = posterior.rsample()
        repeated = latent.unsqueeze(1).repeat(1, self._config.horizon, 1)
        likelihood = self.decoder(states, repeated, actions).sum(1)
        kl = kl_divergence(posterior, Normal(*self.prior(states[:, 0]))).sum(1)
        loss = -(likelihood - self._config.vae.beta * kl).mean() / self._config.horizon
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()


class PlainPrior:
    """Adam on Eq. 5, and a moving average of the weights, tensor by tensor."""

    def __init__(self, config: Config, table: LatentTable) -> None:
        settings, diffusion = config.prior, DiffusionOptions.of(config.prior)
        self._config, self._steps = config, diffusion.steps
        self._drop = diffusion.drop_probability
        self.denoiser = Denoiser(
            table.state.shape[1],
            table.latent_mean.shape[1],
            diffusion.blocks,
            diffusion.condition_dim,
            diffusion.time_dim,
        )
        self.average = deepcopy(self.denoiser)
        alpha_bar = alpha_bars(diffusion.schedule, diffusion.steps)
        self._alpha_bar = torch.from_numpy(alpha_bar).float()
        self._weights = torch.from_numpy(
            min_snr_weights(alpha_bar, diffusion.min_snr_gamma)
        ).float()
        self._optimiser = torch.optim.Adam(self.denoiser.parameters(), lr=settings.learning_rate)
        self._loader = _forever(
            DataLoader(LatentDataset(table), settings.batch_size, shuffle=True, drop_last=True)
        )

    def update(self, _: int) -> None:
        """One step."""
        states, mean, std = next(self._loader)
        clean = mean + std * torch.randn_like(mean)
        time = torch.randint(1, self._steps + 1, (len(states),))
        signal = self._alpha_bar[time].unsqueeze(1)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * torch.randn_like(clean)
        drop = self._drop
        keep = (torch.rand(len(states)) >= drop).float()
        error = ((self.denoiser(noisy, states, time, keep) - clean) ** 2).mean(1)
        loss = (self._weights[time - 1] * error).mean()
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        decay = self._config.prior.ema_decay
        with torch.no_grad():
            for average, weight in zip(
                self.average.parameters(), self.denoiser.parameters(), strict=True
            ):
                average.copy_(decay * average + (1 - decay) * weight)


def _forever(loader: DataLoader[Item]) -> Iterator[Item]:
    while True:
        yield from cast("Iterator[Item]", iter(loader))
