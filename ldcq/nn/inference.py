"""How trained networks compute, in whatever thread they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def inference() -> Iterator[None]:
    """`torch.inference_mode`, with the threads that torch was told to compute with.

    Asking for their number is what gives it to a thread that is new to torch. Such a thread would
    else compute its first matrix product on every core, and the last bits of a product depend on
    the number of threads.
    """
    torch.get_num_threads()
    with torch.inference_mode():
        yield


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads for torch's operations on a CPU; None: as many as there are. Afterwards as
    before.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
