"""`folded` in compiled code: all layers of a few rows at a time, which never leave the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ctypes import CDLL, byref

import torch
from torch import Tensor

from ldcq.diffusion.denoiser import Denoiser
from ldcq.diffusion.fast.folded import FoldedBlock, FoldedDenoiser, filled
from ldcq.diffusion.fast.kernel import GROUP, TILE, Block, Network, load
from ldcq.diffusion.fast.split import Condition, FrozenDenoiser, Nulled, SplitDenoiser

_Compute = Callable[[int, int], int]


def freeze(denoiser: Denoiser, training_steps: int) -> FrozenDenoiser:
    """The denoiser as it is sampled: compiled where that is possible, in plain PyTorch elsewhere.

    Args:
        denoiser: The trained network; its weights are copied.
        training_steps: T, the rows of the time table.
    """
    library = load() if denoiser.last.weight.device.type == "cpu" else None
    if library is None:
        return SplitDenoiser(denoiser, training_steps)
    return FusedDenoiser(denoiser, training_steps, library)


class FusedDenoiser:
    """`Denoiser` with frozen weights on the CPU, equal to it up to rounding.

    A row's result does not depend on its neighbours, its place or the number of threads, to the
    last bit.

    Args:
        denoiser: The trained network; its weights are copied.
        training_steps: T, the rows of the time table.
        library: `kernel.load()`.
    """

    @torch.inference_mode()
    def __init__(self, denoiser: Denoiser, training_steps: int, library: CDLL) -> None:
        folded, weights = FoldedDenoiser(denoiser, training_steps), _Weights()
        self._weights = weights
        self._denoise = library.ldcq_denoise
        self._condition = folded.condition_layer([_padded(block.width) for block in folded.blocks])
        self._network = _pack_network(weights, folded)
        self._null = self.prepare((self._condition.bias.expand(TILE, -1),))
        self._pool: ThreadPoolExecutor | None = None

    def condition(
        self, states: Tensor, goals: Tensor | None = None, nulled: Nulled = "both"
    ) -> Condition:
        """W_s s + W_g g + b of all blocks, centred, side by side. See `split.FrozenDenoiser`."""
        return self._condition(states, goals, nulled)

    def prepare(self, condition: Condition) -> Condition:
        """In tiles, (tiles, features, TILE). See `split.FrozenDenoiser`."""
        return tuple(_tiles(rows) for rows in condition)

    def predict(self, latent: Tensor, condition: Condition, time: int, guidance: float) -> Tensor:
        """z0_hat under guidance, (R, Z). See `split.FrozenDenoiser`."""
        latent = latent.contiguous()
        tiles, null = condition[0], (*condition[1:], *self._null)[0]
        count = -(-len(latent) // TILE)
        if len(tiles) != count or latent.shape[1] != self._network.latent:
            raise ValueError(f"{tuple(latent.shape)} latents do not fit {len(tiles)} tiles of rows")
        stride = tiles[0].numel() if count else 0
        null_stride = stride if len(condition) > 1 else 0
        if guidance == 0:
            tiles, stride = null, null_stride
        both = guidance not in (0, 1)
        out = torch.empty_like(latent)

        def compute(first: int, end: int) -> int:
            row, rows = first * TILE, min(end * TILE, len(latent)) - first * TILE
            status: int = self._denoise(
                byref(self._network),
                time - 1,
                latent.data_ptr() + 4 * row * latent.shape[1],
                rows,
                tiles.data_ptr() + 4 * first * stride,
                stride,
                null.data_ptr() + 4 * first * null_stride if both else None,
                null_stride,
                guidance,
                out.data_ptr() + 4 * row * latent.shape[1],
            )
            return status

        if any(self._on_threads(compute, count)):
            raise MemoryError(f"no memory for tiles of {self._network.features} features")
        return out

    def _on_threads(self, compute: _Compute, tiles: int) -> Iterable[int]:
        """Runs `compute` over all tiles on as many threads as torch may use."""
        threads = min(torch.get_num_threads(), tiles)
        if threads <= 1:
            return [compute(0, tiles)]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads, thread_name_prefix="denoise")
        bounds = [tiles * part // threads for part in range(threads + 1)]
        return list(self._pool.map(compute, bounds[:-1], bounds[1:]))


def _padded(width: int) -> int:
    return -(-width // GROUP) * GROUP


def _tiles(rows: Tensor) -> Tensor:
    """Rows (R, features) as (tiles, features, TILE), the last tile filled up with zeros."""
    padded = rows.new_zeros(-(-len(rows) // TILE) * TILE, rows.shape[1])
    padded[: len(rows)] = rows
    return padded.view(-1, TILE, rows.shape[1]).transpose(1, 2).contiguous()


class _Weights:
    """Tensors by address, kept alive for the kernel."""

    def __init__(self) -> None:
        self._kept: list[Tensor] = []

    def __call__(self, tensor: Tensor) -> int:
        kept = tensor.float().contiguous().clone()
        self._kept.append(kept)
        return kept.data_ptr()

    def vector(self, values: Tensor) -> int:
        """Values for each output, (..., outputs)."""
        return self(filled(values, _padded(values.shape[-1]), dim=-1))

    def matrix(self, weight: Tensor) -> int:
        """A layer's weight (outputs, inputs), as groups of outputs, each (inputs, GROUP)."""
        rows = filled(weight, _padded(len(weight)))
        return self(rows.view(-1, GROUP, rows.shape[1]).transpose(1, 2))


def _pack_block(weights: _Weights, block: FoldedBlock) -> Block:
    packed = Block(
        width=block.width,
        padded=_padded(block.width),
        inputs=block.inputs,
        skip=-1 if block.skip is None else block.skip,
        folded=block.folded,
        first=weights.matrix(block.first),
        second=weights.matrix(block.second),
    )
    for name in ("second_bias", "norm_gain", "norm_bias", "gain", "bias"):
        setattr(packed, name, weights.vector(getattr(block, name)))
    if block.resize is not None and block.resize_bias is not None:
        packed.resize = weights.matrix(block.resize)
        packed.resize_bias = weights.vector(block.resize_bias)
    return packed


def _pack_network(weights: _Weights, folded: FoldedDenoiser) -> Network:
    blocks = [_pack_block(weights, block) for block in folded.blocks]
    widths = [block.padded for block in blocks]
    latent = _padded(folded.latent)
    return Network(
        latent=folded.latent,
        padded=latent,
        blocks=len(blocks),
        features=sum(widths),
        widest=max(latent, *widths),
        block=(Block * len(blocks))(*blocks),
        last=weights.matrix(folded.last),
        last_bias=weights(folded.last_bias),
    )
