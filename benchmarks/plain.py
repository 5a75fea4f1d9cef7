"""The paper's sampler, critic, VAE and prior as they read, in straightforward PyTorch: what
`ldcq bench` compares with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from ldcq.config import Config, CriticConfig
from ldcq.critic.transitions import Transitions
from ldcq.data.latents import LatentTable
from ldcq.data.windows import Windows
from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.options import DiffusionOptions
from ldcq.diffusion.prior import DiffusionPrior
from ldcq.diffusion.schedule import alpha_bars, min_snr_weights
from ldcq.diffusion.solvers import SOLVERS
from ldcq.nn.mlp import mlp
from ldcq.vae.conditional_prior import ConditionalPrior
from ldcq.vae.encoder import make_encoder

CPU = torch.device("cpu")
Timed = Callable[[str, Callable[..., Any]], Callable[..., Any]]
Item = tuple[Tensor, ...]


@torch.inference_mode()
def plain_sample(
    prior: DiffusionPrior,
    states: Tensor,
    candidates: int,
    *,
    guidance: float,
    generator: torch.Generator,
    stop_after: int | None = None,
) -> Tensor:
    """Algorithm 1's lines 5-9 with the network of A.2.2, DDPM with all T steps: everything is
    recomputed for every row and step, over all rows at once.

    Args:
        prior: The model.
        states: Raw states, (N, S).
        candidates: n.
        guidance: w; the null half is left out at w = 1, where it has no weight.
        generator: Of the noise.
        stop_after: Only the first so many steps; None: all.

    Returns:
        Raw latents, (N n, Z).
    """
    denoiser = prior.denoiser
    state = prior.state_normaliser(states).repeat_interleave(candidates, dim=0)
    rows, width = len(state), len(prior.latent_normaliser.mean)
    device = states.device
    nothing = torch.zeros(rows, device=device)
    latent = torch.randn(rows, width, generator=generator, device=device)
    for step in SOLVERS["ddpm"](prior.alpha_bar, prior.options.steps)[:stop_after]:
        time = torch.full((rows,), step.time, device=device)
        clean = denoiser(latent, state, time)
        if guidance != 1:
            null = denoiser(latent, state, time, nothing)
            clean = null + guidance * (clean - null)
        latent = step.latent * latent + step.clean * clean
        if step.noise:
            latent = latent + step.noise * torch.randn(
                rows, width, generator=generator, device=device
            )
    return prior.latent_normaliser.inverse(latent)


def plain_q_network(state_dim: int, latent_dim: int, hidden: Sequence[int]) -> nn.Sequential:
    """Q(s, z) of section A.2.3: linear layers, LayerNorm before each GELU, a linear output."""
    layers: list[nn.Module] = []
    for inputs, width in pairwise((state_dim + latent_dim, *hidden)):
        layers += [nn.Linear(inputs, width), nn.LayerNorm(width), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], 1))


class PlainReplay:
    """Prioritised replay the way it is commonly written: probabilities of all windows, and
    `numpy`'s `choice` by them.
    """

    def __init__(self, size: int, alpha: float, beta: float) -> None:
        self._priorities = np.ones(size, dtype=np.float32)
        self._alpha, self._beta = alpha, beta
        self._random = np.random.default_rng(0)

    def draw(self, count: int) -> tuple[NDArray[np.int64], Tensor]:
        """Indices and importance weights, (B,) each."""
        probabilities = self._priorities**self._alpha
        probabilities /= probabilities.sum()
        indices = self._random.choice(len(probabilities), count, p=probabilities)
        weights = (len(probabilities) * probabilities[indices]) ** -self._beta
        return indices, torch.from_numpy(weights / weights.max()).float()

    def update(self, indices: NDArray[np.int64], priorities: NDArray[np.float32]) -> None:
        """Sets the priorities of windows just used."""
        self._priorities[indices] = priorities + 1e-6


class PlainLearner:
    """One update of Algorithm 1: the state repeated for every candidate, both target networks on
    [s; z] of all of them, float32 candidates, gradients of both networks, Polyak in a loop.

    Args:
        config: Sizes and rates.
        transitions: The windows.
        candidates: Of every window's next state, float32 (M, n, Z).
        timed: Wraps a function so that its time is counted as a part's.
    """

    def __init__(
        self, config: CriticConfig, transitions: Transitions, candidates: Tensor, timed: Timed
    ) -> None:
        state_dim, latent_dim = transitions.state.shape[1], transitions.latent_mean.shape[1]
        self.networks = [
            plain_q_network(state_dim, latent_dim, config.hidden).to(transitions.device)
            for _ in range(2)
        ]
        self.targets = deepcopy(self.networks)
        parameters = [p for network in self.networks for p in network.parameters()]
        self._optimiser = torch.optim.Adam(parameters, lr=config.learning_rate)
        self._replay = PlainReplay(len(transitions), config.replay.alpha, config.replay.beta)
        self._config, self._transitions = config, transitions
        self._draw = timed("sampling", self._replay.draw)
        self._gather = timed("candidates", candidates.__getitem__)
        self._target = timed("target", self.target)
        self._prioritise = timed("priorities", self._replay.update)

    def update(self, _: int) -> None:
        """Lines 4 to 12 of Algorithm 1."""
        windows, device = self._transitions, self._transitions.device
        rows, weights = self._draw(self._config.batch_size)
        indices, weights = torch.from_numpy(rows), weights.to(device)
        candidates = self._gather(indices).to(device)
        targets = self._target(
            windows.reward[indices],
            windows.discount[indices],
            windows.next_state[indices],
            candidates,
        )
        mean, std = windows.latent_mean[indices], windows.latent_std[indices]
        latents = mean + std * torch.randn_like(mean)
        pairs = torch.cat([windows.state[indices], latents], dim=1)
        values = [network(pairs).squeeze(1) for network in self.networks]
        loss = sum(((weights * (value - targets) ** 2).mean() for value in values), torch.zeros(()))
        _descend(self._optimiser, loss)
        with torch.no_grad():
            for target, network in zip(self.targets, self.networks, strict=True):
                for old, new in zip(target.parameters(), network.parameters(), strict=True):
                    rate = self._config.target_update_rate
                    old.data.copy_((1 - rate) * old.data + rate * new.data)
            errors = sum((value - targets).abs() for value in values) / 2
        self._prioritise(rows, torch.as_tensor(errors).cpu().numpy())

    @torch.no_grad()
    def target(
        self, reward: Tensor, discount: Tensor, next_state: Tensor, candidates: Tensor
    ) -> Tensor:
        """The target: r + gamma^H max_z min_j Q_j(s_{t+H}, z), (B,)."""
        batch, count, latent_dim = candidates.shape
        states = next_state.repeat_interleave(count, dim=0)
        pairs = torch.cat([states, candidates.reshape(-1, latent_dim)], dim=1)
        first, second = (network(pairs).view(batch, count) for network in self.targets)
        best: Tensor = torch.min(first, second).max(dim=1).values
        return reward + discount * best


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

    def __init__(self, config: Config, windows: Windows, device: torch.device = CPU) -> None:
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
        observations = torch.from_numpy(windows.episodes.observations).to(device)
        self._mean, self._std = observations.mean(0), observations.std(0)
        networks = [part.to(device) for part in (self.encoder, self.prior, self.decoder)]
        self._optimiser = torch.optim.Adam(
            [p for network in networks for p in network.parameters()], lr=settings.learning_rate
        )
        self._loader = _shuffled(WindowDataset(windows), settings.batch_size, device)

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
        _descend(self._optimiser, loss)


class PlainPrior:
    """Adam on Eq. 5, and a moving average of the weights, tensor by tensor."""

    def __init__(self, config: Config, table: LatentTable, device: torch.device = CPU) -> None:
        settings, diffusion = config.prior, DiffusionOptions.of(config.prior)
        self._config, self._steps = config, diffusion.steps
        self._drop = diffusion.drop_probability
        self.denoiser = Denoiser(
            table.state.shape[1],
            table.latent_mean.shape[1],
            diffusion.blocks,
            diffusion.condition_dim,
            diffusion.time_dim,
        ).to(device)
        self.average = deepcopy(self.denoiser)
        alpha_bar = alpha_bars(diffusion.schedule, diffusion.steps)
        weights = min_snr_weights(alpha_bar, diffusion.min_snr_gamma)
        self._alpha_bar, self._weights = (
            torch.from_numpy(values).float().to(device) for values in (alpha_bar, weights)
        )
        self._optimiser = torch.optim.Adam(self.denoiser.parameters(), lr=settings.learning_rate)
        self._loader = _shuffled(LatentDataset(table), settings.batch_size, device)

    def update(self, _: int) -> None:
        """One step."""
        states, mean, std = next(self._loader)
        clean = mean + std * torch.randn_like(mean)
        time = torch.randint(1, self._steps + 1, (len(states),), device=states.device)
        signal = self._alpha_bar[time].unsqueeze(1)
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * torch.randn_like(clean)
        keep = (torch.rand(len(states), device=states.device) >= self._drop).float()
        error = ((self.denoiser(noisy, states, time, keep) - clean) ** 2).mean(1)
        loss = (self._weights[time - 1] * error).mean()
        _descend(self._optimiser, loss)
        decay = self._config.prior.ema_decay
        with torch.no_grad():
            for average, weight in zip(
                self.average.parameters(), self.denoiser.parameters(), strict=True
            ):
                average.copy_(decay * average + (1 - decay) * weight)


def _shuffled(dataset: Dataset[Item], batch: int, device: torch.device) -> Iterator[Item]:
    """Batches without an end."""
    loader = DataLoader(dataset, batch, shuffle=True, drop_last=True)
    while True:
        for parts in cast("Iterator[Item]", iter(loader)):
            yield tuple(part.to(device) for part in parts)


def _descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
