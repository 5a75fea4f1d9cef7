"""New threads compute as the first one does."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from ldcq.nn.inference import inference


def test_a_new_thread_computes_with_as_many_threads_as_torch_was_told() -> None:
    """The tests run with one thread; OpenMP's default is every core."""
    torch.manual_seed(0)
    network, values = nn.Linear(512, 256), torch.randn(7, 512)
    found: list[Tensor] = []

    def compute() -> None:
        with inference():
            found.append(network(values))

    compute()
    for _ in range(8):
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
    assert len(found) == 9
    assert all(torch.equal(one, found[0]) for one in found)
    assert found[0].is_inference()
