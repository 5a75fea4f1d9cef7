"""Episodes of trained policies, which come as a file of arrays, in their Gymnasium environment."""

from __future__ import annotations

import copy
import hashlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.data.archive import read_archive
from common.data.flat_environment import make_registered
from common.data.minari_writing import EpisodeArrays
from common.generators.playing import whole_episode
from ldcq.config.generate import PolicyConfig
from ldcq.data.episodes import DataError

SMALL = 1e-8
"""Added to what an observation is divided by."""
CALM = 1000
"""Steps that the time left, which some policies see, is a share of."""


class Network:
    """A policy of fully connected layers.

    Its file (npz) holds `W0`, `b0`, `W1`, ... and may say `hidden` (tanh, or relu), `squash` of the
    last layer (clip, or tanh), how observations are normalised (`obs_mean`, `obs_var`, `obs_clip`,
    or `in_shift`, `in_scale`), and `out_shift`, `out_scale`. A first layer with one input more than
    an observation has entries sees the share of 1,000 steps that is left as well.
    """

    def __init__(self, file: str) -> None:
        """Reads the file.

        Raises:
            DataError: It is not there, or holds no such arrays.
        """
        self._arrays = read_archive(Path(file).expanduser(), said="data.generate.policies: ")
        layers = itertools.takewhile(
            self._arrays.__contains__, map("W{}".format, itertools.count())
        )
        self._depth = len([*layers])
        if not self._depth:
            raise DataError(
                f"data.generate.policies: {file} has {', '.join(self._arrays) or 'nothing'}, "
                "expected the layers W0, b0, W1, ... of a policy"
            )
        if wrong := self._mistake():
            raise DataError(f"data.generate.policies: {file}: {wrong}")
        self.inputs = int(self._layer(0).shape[1])
        self.outputs = int(self._layer(self._depth - 1).shape[0])
        try:
            with np.errstate(all="ignore"):
                action = self(np.zeros(self._sees()), 0)
        except (ValueError, KeyError, IndexError) as error:
            raise DataError(
                f"data.generate.policies: {file}: its arrays do not fit each other ({error})"
            ) from error
        if action.shape != (self.outputs,) or not np.isfinite(action).all():
            raise DataError(
                f"data.generate.policies: {file}: its action for zeros is {action}, expected "
                f"{self.outputs} finite numbers"
            )

    def _mistake(self) -> str:
        """What is wrong with single arrays; empty: nothing."""
        for word, known in (("hidden", ("tanh", "relu")), ("squash", ("clip", "tanh"))):
            given = str(self._arrays.get(word, known[0]))
            if given not in known and (word == "squash" or self._depth > 1):
                return f"{word} is {given!r}, expected one of {', '.join(known)}"
        for key, values in self._arrays.items():
            if key not in ("hidden", "squash"):
                if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
                    return f"{key} are not finite numbers"
                if key[0] == "W" and values.ndim != 2:
                    return f"{key} has shape {values.shape}, expected outputs and inputs"
        if np.any(self._arrays.get("obs_var", np.zeros(1)) < 0):
            return "obs_var has negative numbers, expected variances"
        return ""

    def _sees(self) -> int:
        """How many entries an observation has: those that it is normalised by, where it is."""
        for key in ("obs_mean", "in_shift"):
            if key in self._arrays and self._arrays[key].ndim == 1:
                return len(self._arrays[key])
        return self.inputs

    def __call__(self, observation: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float64]:
        """The action without noise, in [-1, 1], at a step of an episode.

        Args:
            observation: Shape (S,).
            step: Counted from 0.

        Returns:
            Shape (A,).
        """
        arrays, hidden = self._arrays, observation
        if self.inputs == len(observation) + 1:
            hidden = np.append(hidden, (CALM - step) / CALM)
        if "obs_mean" in arrays:
            scale = np.sqrt(arrays["obs_var"] + arrays.get("obs_eps", SMALL))
            limit = arrays.get("obs_clip", np.inf)
            hidden = np.clip((hidden - arrays["obs_mean"]) / scale, -limit, limit)
        if "in_shift" in arrays:
            hidden = (hidden - arrays["in_shift"]) / (arrays["in_scale"] + SMALL)
        relu = str(arrays.get("hidden", "tanh")) == "relu"
        for index in range(self._depth):
            hidden = self._layer(index) @ hidden + arrays[f"b{index}"]
            if index < self._depth - 1:
                hidden = np.maximum(hidden, 0) if relu else np.tanh(hidden)
        if "out_shift" in arrays:
            hidden = hidden * arrays["out_scale"] + arrays["out_shift"]
        if str(arrays.get("squash", "clip")) == "tanh":
            return np.tanh(hidden)
        return np.clip(hidden, -1, 1)

    def weaker(self, weakness: float, random: np.random.Generator) -> Network:
        """A policy of other weights, each changed by a Gaussian of `weakness` root mean squares of
        its layer.
        """
        changed = copy.copy(self)
        changed._arrays = dict(self._arrays)
        for index in range(self._depth):
            layer = self._layer(index)
            size = weakness * np.sqrt(np.square(layer).mean())
            changed._arrays[f"W{index}"] = layer + size * random.standard_normal(layer.shape)
        return changed

    def _layer(self, index: int) -> npt.NDArray[Any]:
        return np.asarray(self._arrays[f"W{index}"])


def described(files: Iterable[str]) -> str:
    """Names and digests of policies' files, as what was played.

    Raises:
        OSError: One cannot be read.
    """
    paths = [Path(file).expanduser() for file in files]
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    known = zip(paths, digests, strict=True)
    return ", ".join(f"{path.name} (SHA-256 {digest})" for path, digest in known)


class PolicyPlayer:
    """Plays whole episodes, each by one of the policies, with one level of noise and one change of
    its weights throughout.
    """

    def __init__(self, config: PolicyConfig) -> None:
        """Makes the environment and reads the policies.

        Raises:
            DataError: The environment cannot be made, or a policy does not fit it.
        """
        files = [policy.file for policy in config.policies if policy.file is not None]
        if len(files) < len(config.policies):
            raise DataError(
                f"data.generate.policies: {len(files)} files given, expected {len(config.policies)}"
                f", the layers of policies for {config.environment} (`ldcq data generate NAME "
                "--policy FILE`)"
            )
        self.environment = make_registered(config.environment, None)
        assert self.environment.spec is not None, "a registered environment has a spec"
        self.evaluation = self.environment.spec
        networks = [Network(file) for file in files]
        self._policies = list(zip(networks, config.policies, strict=True))
        shares = np.array([policy.share for policy in config.policies])
        self.metadata = {
            "algorithm_name": "trained policies with noise",
            "description": described(files),
        }
        self._shares = shares / shares.sum()
        (states,) = self.environment.observation_space.shape or (0,)
        (actions,) = self.environment.action_space.shape or (0,)
        for network, file in zip(networks, files, strict=True):
            found = network.inputs, network.outputs
            if found not in [(states, actions), (states + 1, actions)]:
                raise DataError(
                    f"data.generate.policies: {file} maps {found[0]} numbers to {found[1]}, "
                    f"expected {states} to {actions} as in {config.environment}"
                )

    def episode(self, seed: np.random.SeedSequence) -> EpisodeArrays:
        """One whole episode, a function of `seed` alone."""
        random = np.random.default_rng(seed)
        network, policy = self._policies[int(random.choice(len(self._policies), p=self._shares))]
        noise = random.uniform(*policy.noise)
        if policy.weakness[1]:
            weakness = random.uniform(*policy.weakness)
            one = random if policy.weaker is None else np.random.default_rng(policy.weaker)
            network = network.weaker(weakness, one)

        def act(observation: npt.NDArray[np.float64], step: int) -> npt.NDArray[np.float32]:
            action = network(observation, step)
            action = action + noise * random.standard_normal(len(action))
            return np.clip(action, -1, 1).astype(np.float32)

        observation, _ = self.environment.reset(seed=int(seed.generate_state(1)[0]))
        return whole_episode(self.environment, observation, act)
