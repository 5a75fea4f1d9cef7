"""The reverse loop on a GPU: one kernel, which runs all steps."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast.card_network import card_width, pack
from ldcq.diffusion.fast.folded import FoldedDenoiser, filled
from ldcq.diffusion.fast.split import Condition, Nulled
from ldcq.diffusion.reverse_loop import Rows
from ldcq.diffusion.sampling_options import ResolvedOptions, plan_steps

Precision = Literal["fp16", "tf32", "fp32"]
"""Of the matrix products' operands; sums are fp32."""
PRECISION = "LDCQ_GPU_PRECISION"
"""The environment variable that names it; without it, fp16."""

WIDEST = 256
"""Widest block: its matrix has to fit into shared memory."""
STATES = 64
"""States encoded at once, so that what a state is encoded as does not depend on the others: matrix
libraries choose kernels by shape."""
TILE = 64
"""Rows of a tile, the least that a Hopper's tensor cores take at once."""
WARPS = 4
"""Of a tile: one group of a Hopper's."""
KEPT_BYTES = 176 * 1024
"""Matrices of so many bytes stay in shared memory during all steps (227 KB on a H100)."""
MOST_PLANS = 64
"""Options whose steps are kept on the device."""
_DTYPES: dict[Precision, torch.dtype] = {
    "fp16": torch.float16,
    "tf32": torch.float32,
    "fp32": torch.float32,
}
_PRODUCTS: dict[Precision, str] = {"fp16": "ieee", "tf32": "tf32", "fp32": "ieee"}


class CardError(Exception):
    """There can be no kernel for this model here."""


def chosen_precision() -> Precision:
    """What `PRECISION` says.

    Raises:
        ValueError: It is none of the three.
    """
    given = os.environ.get(PRECISION, "fp16")
    for allowed in _DTYPES:
        if given == allowed:
            return allowed
    raise ValueError(f"{PRECISION} is {given!r}, expected {', '.join(_DTYPES)}")


class CardLoop:
    """All steps of the reverse loop in one kernel. See `ReverseLoop`.

    A row's latents depend on its state, the draw's seed and its number within the draw alone, and
    on nothing that is computed beside it.

    Args:
        denoiser: The trained network; its weights are copied.
        alpha_bar: The schedule, (T + 1,).
        clip: Bound of z0_hat, in standardised latents; None: unbounded.
        precision: Of the matrix products.

    Raises:
        CardError: A block is wider than `WIDEST`, Triton is not installed, or the kernel does not
            compile here.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        alpha_bar: NDArray[np.float64],
        clip: float | None,
        precision: Precision = "fp16",
    ) -> None:
        if (widest := max(denoiser.widths)) > WIDEST:
            raise CardError(f"a block is {widest} wide, more than {WIDEST}")
        try:
            from ldcq.diffusion.fast import card_kernel
        except ImportError as error:
            raise CardError(f"{error}: pip install triton") from error
        self._kernel = card_kernel.reverse_loop
        self._alpha_bar, self._precision = alpha_bar, precision
        self._clip = math.inf if clip is None else clip
        self._device = denoiser.last.weight.device
        folded = FoldedDenoiser(denoiser, len(alpha_bar) - 1)
        self._latent = folded.latent
        widths = [card_width(block.width) for block in folded.blocks]
        self._layer = folded.condition_layer(widths)
        self.network = pack(folded, _DTYPES[precision])
        self._plan_of = functools.lru_cache(MOST_PLANS)(self._plan)
        self._try()

    def condition(
        self, states: Tensor, goals: Tensor | None = None, nulled: Nulled = "both"
    ) -> Condition:
        """W_s s + W_g g + b of all blocks, (N, features). See `FrozenDenoiser.condition`."""
        given = [states] if goals is None else [states, goals]
        parts = []
        for start in range(0, len(states), STATES):
            chunk = [filled(each[start : start + STATES], STATES) for each in given]
            parts.append(self._layer(chunk[0], chunk[1] if len(chunk) > 1 else None, nulled))
        return tuple(torch.cat(same)[: len(states)] for same in zip(*parts, strict=True))

    def __call__(
        self, condition: Condition, rows: Sequence[Rows], options: ResolvedOptions
    ) -> Tensor:
        """See `ReverseLoop`."""
        count = sum(each.end - each.start for each in rows)
        out = torch.empty(count, self._latent, device=self._device)
        tiles = torch.from_numpy(np.concatenate(_tiles(rows))).to(self._device)
        conditions = self._halves(condition, options.guidance)
        times, coefficients = self._plan_of(options)
        arguments: dict[str, Any] = {
            "out": out,
            "tiles": tiles,
            "conditions": conditions,
            "matrices": self.network.matrices,
            "vectors": self.network.vectors,
            "tables": self.network.tables,
            "times": times,
            "coefficients": coefficients,
            "steps": len(times),
            "halves": conditions.shape[1],
            "still": 0,
            "guidance": float(options.guidance) if conditions.shape[1] > 1 else 1.0,
            "temperature": float(options.temperature),
            "clip": self._clip,
        }
        self._kernel[(len(tiles),)](**arguments, **self.constants(), num_warps=WARPS)
        return out

    def _halves(self, condition: Condition, guidance: float) -> Tensor:
        """The condition of every state, and with guidance its unconditional half: (N, 1 or 2,
        features).
        """
        given = condition[0]
        null = condition[1] if len(condition) > 1 else self._layer.bias.expand_as(given)
        if guidance in (0, 1):
            return (given if guidance else null)[:, None].contiguous()
        return torch.stack([given, null], dim=1)

    def constants(self) -> dict[str, Any]:
        """What is compiled into the kernel."""
        network = self.network
        return {
            "BLOCKS": network.blocks,
            "LAST": network.last,
            "FEATURES": network.features,
            "Z": self._latent,
            "ROWS": TILE,
            "KEPT": network.matrices.nbytes <= KEPT_BYTES,
            "PRECISION": _PRODUCTS[self._precision],
        }

    def _plan(self, options: ResolvedOptions) -> tuple[Tensor, Tensor]:
        """The steps as the kernel reads them."""
        steps = plan_steps(options, self._alpha_bar)
        noise = [step.noise * options.temperature for step in steps]
        drawn = 1 + np.cumsum([0, *(scale != 0 for scale in noise[:-1])])
        times = np.stack([[step.time - 1 for step in steps], drawn], axis=1)
        coefficients = [
            (step.latent, step.clean, step.previous, scale)
            for step, scale in zip(steps, noise, strict=True)
        ]
        return (
            torch.tensor(times, dtype=torch.int32, device=self._device),
            torch.tensor(coefficients, dtype=torch.float32, device=self._device),
        )

    def _try(self) -> None:
        """Compiles the kernel and runs it once.

        Raises:
            CardError: It cannot.
        """
        options = ResolvedOptions.model_construct(
            solver="ddim", steps=1, guidance=1.0, nulled="state", extra_steps=0, temperature=1.0
        )
        try:
            self((self._layer.bias[None],), [Rows(0, 1, 0, 1, 0)], options)
            if self._device.type == "cuda":
                torch.cuda.synchronize()
        except Exception as error:  # Triton's own, of many kinds
            raise CardError(f"{type(error).__name__}: {error}") from error


def _tiles(rows: Sequence[Rows]) -> list[NDArray[np.int64]]:
    """For each stretch (tiles, 6), what `card_kernel.reverse_loop` reads.

    A row has its place in a tile whatever part of the draw is asked for.
    """
    found = []
    place = 0
    for each in rows:
        n = each.candidates
        state = np.arange(each.start // n, -(-each.end // n))
        low = np.maximum(each.start - state * n, 0) // TILE
        high = -(-np.minimum(each.end - state * n, n) // TILE)
        which = np.repeat(np.arange(len(state)), high - low)
        ordinal = np.arange(len(which)) - np.repeat(np.cumsum(high - low) - high + low, high - low)
        within = (low[which] + ordinal) * TILE
        first = state[which] * n + within
        columns = (
            np.full(len(which), each.seed, np.uint64).view(np.int64),
            each.first_state + state[which],
            first,
            np.maximum(each.start - first, 0),
            np.minimum(np.minimum(n - within, each.end - first), TILE),
            place + first - each.start,
        )
        found.append(np.stack(columns, axis=1))
        place += each.end - each.start
    return found
