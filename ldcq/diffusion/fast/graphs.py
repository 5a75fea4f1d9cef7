"""The reverse loop on a GPU: all its steps as one CUDA graph, captured once per size of block and
options.

Launched one by one, the small kernels of a denoising step take the host longer than the device; a
graph is launched as a whole.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ldcq.cuda_graphs import cause, recorded
from ldcq.diffusion.fast.split import Condition
from ldcq.randomness import BlockNoise

_LOG = logging.getLogger(__name__)


Options = TypeVar("Options", bound=Hashable)

MOST_GRAPHS = 8
"""Graphs kept; each holds the noise and the activations of its block."""


@dataclass(frozen=True)
class _Captured:
    """A graph, the tensors it reads and the one it writes."""

    graph: torch.cuda.CUDAGraph
    condition: Condition
    noise: Tensor
    latent: Tensor


class LoopGraphs(Generic[Options]):
    """Runs a reverse loop through captured graphs, with the same result as running it directly.

    To be called from one thread. Where capturing fails the loop is run directly from then on, and
    the log says why.

    Args:
        loop: From a condition of R rows, a source of noise (R, Z) and options to latents (R, Z).
        draws: How often the loop draws noise under some options.
    """

    def __init__(
        self,
        loop: Callable[[Condition, Callable[[], Tensor], Options], Tensor],
        draws: Callable[[Options], int],
    ) -> None:
        self._loop, self._draws = loop, draws
        self._captured: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._failed = False

    def __call__(self, condition: Condition, noise: BlockNoise, options: Options) -> Tensor:
        """The loop's latents, (noise.padded, Z), the caller's own.

        Args:
            condition: Of `noise.padded` rows.
            noise: Not yet drawn from.
            options: Of the loop.
        """
        if self._failed:
            return self._loop(condition, noise.draw, options)
        key = (noise.padded, options)
        captured = self._captured.get(key)
        if captured is None:
            try:
                captured = self._capture(condition, noise, options)
            except RuntimeError as error:
                self._failed = True
                _LOG.warning("sampling without CUDA graphs: %s", cause(error))
                return self._loop(condition, noise.draw, options)
            self._captured[key] = captured
            if len(self._captured) > MOST_GRAPHS:
                self._captured.popitem(last=False)
        self._captured.move_to_end(key)
        for own, given in zip(captured.condition, condition, strict=True):
            own.copy_(given)
        noise.draw_all(captured.noise)
        captured.graph.replay()
        return captured.latent.clone()

    def _capture(self, condition: Condition, noise: BlockNoise, options: Options) -> _Captured:
        """Records the loop over tensors of its own, which a replay reads anew.

        `noise` gives the shape only: nothing is drawn from it.
        """
        own = tuple(part.clone() for part in condition)
        buffer = noise.buffer(self._draws(options))
        graph = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Libraries set themselves up at their first call, which a capture does not allow.
            self._loop(own, iter(buffer).__next__, options)
        torch.cuda.current_stream().wait_stream(stream)
        with recorded(graph, stream):
            latent = self._loop(own, iter(buffer).__next__, options)
        return _Captured(graph, own, buffer, latent)
