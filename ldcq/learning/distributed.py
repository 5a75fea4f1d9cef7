"""Training in several processes at once, started by `torchrun`.

All ranks hold the same weights and draw the same random numbers; each computes on its share of the
batch, and gradients are summed. Rank 0 alone decides, logs, saves and publishes.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(days=1)
"""How long a rank waits for another: as long as rank 0 takes to wait for parents or to export."""

J = TypeVar("J")


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, as one of them sees them.

    Attributes:
        rank: This one, from 0.
        count: All of them; 1 where a process trains alone.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that logs, saves and publishes."""
        return self.rank == 0

    def share(self, batch: int) -> slice:
        """This rank's rows of a batch of `batch` rows."""
        return slice(self.rank * batch // self.count, (self.rank + 1) * batch // self.count)

    def sum_gradients(self, parameters: Iterable[Tensor], *scalars: Tensor) -> list[Tensor]:
        """Sums gradients over all ranks, in place, and scalars along with them.

        Args:
            parameters: In the same order everywhere.
            scalars: Zero-dimensional.

        Returns:
            The sums of the scalars.
        """
        if self.count == 1:
            return list(scalars)
        gradients = [p.grad for p in parameters if p.grad is not None]
        parts = [*gradients, *(scalar.detach().reshape(1) for scalar in scalars)]
        # One message for all: they are many and small.
        flat = torch.cat([part.flatten() for part in parts])
        dist.all_reduce(flat)
        sums = flat.split([part.numel() for part in parts])  # type: ignore[no-untyped-call]
        for gradient, total in zip(gradients, sums, strict=False):
            gradient.copy_(total.view_as(gradient))
        return [total.squeeze(0) for total in sums[len(gradients) :]]

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        if self.count == 1:
            return flag
        votes = torch.tensor(int(flag))
        dist.all_reduce(votes)
        return bool(votes)

    def agree(self, decide: Callable[[], J]) -> J:
        """What rank 0 decides, for all; the others wait for it.

        Args:
            decide: Called on rank 0 only; returns what JSON can hold.
        """
        if self.count == 1:
            return decide()
        message = json.dumps(decide()).encode() if self.first else b""
        size = torch.tensor(len(message))
        dist.broadcast(size, 0)
        content = torch.zeros(int(size), dtype=torch.uint8)
        if self.first:
            content = torch.frombuffer(bytearray(message), dtype=torch.uint8)
        dist.broadcast(content, 0)
        answer: J = json.loads(bytes(content.tolist()))
        return answer


def ranks() -> Ranks:
    """The ranks this process is one of; itself alone outside of `joined`."""
    if dist.is_available() and dist.is_initialized():
        return Ranks(dist.get_rank(), dist.get_world_size())
    return Ranks()


@contextmanager
def joined() -> Iterator[Ranks]:
    """Joins the processes that `torchrun` started beside this one, if it did.

    Tensors on a CPU travel by gloo, those on a GPU by NCCL; each process takes the GPU of its
    local rank.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    # Optimizers import this, and its default arguments keep the group that is there by then: whose
    # threads then outlive `destroy_process_group` and may abort the process while Python ends.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield ranks()
    finally:
        dist.destroy_process_group()
