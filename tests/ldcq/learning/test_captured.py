"""Captured updates: a stand-in for the graph where there is no GPU; the graph where there is."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ldcq.learning import captured
from ldcq.learning.captured import WARM_UP, CapturedUpdate, Tensors
from ldcq.learning.descent import Descent

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass
class _Replayed:
    """Computes anew from the tensors it was captured over, as a graph does."""

    work: Callable[[], dict[str, Tensor]]
    outputs: dict[str, Tensor]

    def replay(self) -> None:
        for name, value in self.work().items():
            self.outputs[name].copy_(value)


class _WithoutStreams(CapturedUpdate):
    """Warms up without a GPU."""

    def _warm_up(self, inputs: Tensors) -> dict[str, Tensor]:
        return self._update(inputs)


class _Recorded(_WithoutStreams):
    """Captures without a GPU."""

    captures = 0

    def _capture(self, inputs: Tensors) -> captured._Captured:
        self.captures += 1
        own = {name: tensor.clone() for name, tensor in inputs.items()}
        outputs = {"sum": torch.zeros(())}
        graph = _Replayed(lambda: self._update(own), outputs)
        return captured._Captured(graph, own, outputs)  # type: ignore[arg-type]


class _Sum:
    """An update that adds up all it has read."""

    def __init__(self) -> None:
        self.total = torch.zeros(())

    def __call__(self, inputs: Tensors) -> dict[str, Tensor]:
        self.total += inputs["values"].sum()
        return {"sum": self.total.clone()}


def test_an_update_is_captured_once_and_reads_what_it_is_given() -> None:
    update = _Recorded(_Sum())
    found = [float(update({"values": torch.full((2,), float(k))})["sum"]) for k in range(8)]
    assert found == [k * (k + 1.0) for k in range(8)]
    assert update.captures == 1


def test_other_shapes_are_updated_directly_and_the_graph_is_kept() -> None:
    update = _Recorded(_Sum())
    for size in (2, 2, 2, 2, 3, 2):
        total = update({"values": torch.ones(size)})["sum"]
    assert float(total) == 13
    assert update.captures == 1


def test_what_is_forgotten_is_captured_anew() -> None:
    update = _Recorded(_Sum())
    for _ in range(WARM_UP + 1):
        update({"values": torch.ones(2)})
    update.forget()
    for _ in range(WARM_UP + 1):
        update({"values": torch.ones(2)})
    assert update.captures == 2


def test_where_nothing_can_be_captured_updates_are_made_directly(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise RuntimeError("no graphs here")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", refuse)
    update = _WithoutStreams(_Sum())
    with caplog.at_level(logging.WARNING):
        found = [float(update({"values": torch.ones(2)})["sum"]) for _ in range(WARM_UP + 3)]
    assert found == [2.0 * (k + 1) for k in range(WARM_UP + 3)]
    assert [record.getMessage() for record in caplog.records] == [
        "training without CUDA graphs: no graphs here"
    ]


def _descent(network: nn.Module) -> Descent:
    def measure(inputs: Tensors) -> dict[str, Tensor]:
        return {"loss": functional.mse_loss(network(inputs["x"]), inputs["y"])}

    return Descent(network, measure, learning_rate=1e-2, schedule="one_cycle", total=20)


def _train(descent: Descent, first: int, last: int) -> list[float]:
    losses = []
    for step in range(first, last):
        random = torch.Generator().manual_seed(step)
        inputs = {name: torch.randn(16, 3, generator=random).to(DEVICE) for name in "xy"}
        losses.append(float(descent.step(inputs)["loss"]))
    return losses


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_graphs_train_as_eager_updates_do(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    networks = [nn.Sequential(nn.Linear(3, 32), nn.GELU(), nn.Linear(32, 3)).to(DEVICE)]
    networks.append(copy.deepcopy(networks[0]))
    captured_losses = _train(_descent(networks[0]), 0, 20)
    monkeypatch.setattr(captured, "WARM_UP", 100)
    eager_losses = _train(_descent(networks[1]), 0, 20)
    assert captured_losses == pytest.approx(eager_losses, rel=1e-5)
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_a_resumed_training_ends_as_one_that_was_not_interrupted() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 3).to(DEVICE)
    descent = _descent(network)
    _train(descent, 0, 10)
    weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(descent.state_dict())
    expected = _train(descent, 10, 20)
    again = nn.Linear(3, 3).to(DEVICE)
    again.load_state_dict(weights)
    resumed = _descent(again)
    resumed.load_state_dict(state)
    assert _train(resumed, 10, 20) == pytest.approx(expected, rel=1e-6)
