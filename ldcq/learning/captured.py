"""An update of weights on a GPU as one CUDA graph: its hundreds of small kernels are launched as a
whole.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ldcq.cuda_graphs import cause, recorded

_LOG = logging.getLogger(__name__)

Tensors = Mapping[str, Tensor]
"""What an update reads or says, by name."""

WARM_UP = 3
"""Updates before the capture: libraries set themselves up and the optimiser makes its state."""


@dataclass(frozen=True)
class _Captured:
    """A graph, the tensors it reads and those it writes."""

    graph: torch.cuda.CUDAGraph
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class CapturedUpdate:
    """Makes an update through a graph, with the same result as making it directly.

    To be called from one thread. Where capturing fails, updates are made directly from then on, and
    the log says why.

    Args:
        update: Reads tensors, changes weights and the optimiser's state in place, and returns
            tensors; nothing in it waits for the device.
    """

    def __init__(self, update: Callable[[Tensors], dict[str, Tensor]]) -> None:
        self._update = update
        self.forget()

    def forget(self) -> None:
        """Captures anew: tensors that the update changes were replaced by others."""
        self._made, self._failed = 0, False
        self._captured: _Captured | None = None

    def __call__(self, inputs: Tensors) -> dict[str, Tensor]:
        """One update.

        Args:
            inputs: Of the same shapes at every call; of others it is made directly.

        Returns:
            What the update returns, valid until the next one.
        """
        self._made += 1
        if self._failed:
            return self._update(inputs)
        if self._made <= WARM_UP:
            return self._warm_up(inputs)
        if self._captured is None:
            try:
                self._captured = self._capture(inputs)
            except RuntimeError as error:
                self._failed = True
                _LOG.warning("training without CUDA graphs: %s", cause(error))
                return self._update(inputs)
        captured = self._captured
        shapes = {name: tensor.shape for name, tensor in inputs.items()}
        if shapes != {name: tensor.shape for name, tensor in captured.inputs.items()}:
            return self._update(inputs)
        for name, own in captured.inputs.items():
            own.copy_(inputs[name])
        captured.graph.replay()
        return captured.outputs

    @functools.cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def _warm_up(self, inputs: Tensors) -> dict[str, Tensor]:
        """An update on the stream that is captured later: gradients are added up on the stream
        where that was first done.
        """
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            found = self._update(inputs)
        current.wait_stream(self._stream)
        return found

    def _capture(self, inputs: Tensors) -> _Captured:
        """Records the update over tensors of its own, which a replay reads anew; nothing is
        computed.
        """
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        graph = torch.cuda.CUDAGraph()
        with recorded(graph, self._stream):
            outputs = self._update(own)
        return _Captured(graph, own, outputs)
