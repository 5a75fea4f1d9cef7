"""Recording CUDA graphs so that a failure leaves the thread as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def recorded(graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> Iterator[None]:
    """What is launched meanwhile goes into the graph, and is not computed.

    Args:
        graph: Filled.
        stream: Current meanwhile; the thread's own is current again afterwards, also after a
            failure, from which torch does not return to it.

    Raises:
        RuntimeError: Something cannot be recorded; see `cause`.
    """
    current = torch.cuda.current_stream()
    try:
        # Of this thread only: another may prepare the next batch, or load a model, meanwhile.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            yield
    finally:
        torch.cuda.set_stream(current)


def cause(error: BaseException) -> BaseException:
    """What went wrong first: the end of a recording that has failed fails as well."""
    return error if error.__context__ is None else cause(error.__context__)
