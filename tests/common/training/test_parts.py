"""Averages, schedules, devices and logs."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from common.training import MetricLog, configure_torch, read_metrics, resolve_device
from common.training.device import DeviceError
from ldcq.config import Config
from ldcq.learning.averaging import ExponentialMovingAverage
from ldcq.learning.descent import learning_rate_schedule


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_average_follows_its_formula(decay: float) -> None:
    module = nn.Linear(2, 2)
    average = ExponentialMovingAverage(module, decay)
    expected = None
    for value in (1.0, 5.0, -2.0):
        with torch.no_grad():
            module.weight.fill_(value)
        average.update()
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert expected is not None
    torch.testing.assert_close(average.module.weight, torch.full((2, 2), expected))
    assert not average.module.weight.requires_grad
    assert module.weight.requires_grad


def test_an_average_goes_on_from_its_state() -> None:
    module = nn.Linear(2, 2)
    average = ExponentialMovingAverage(module, 0.9)
    average.update()
    with torch.no_grad():
        module.weight.fill_(3.0)
    other = ExponentialMovingAverage(module, 0.9)
    other.load_state_dict(average.state_dict())
    average.update()
    other.update()
    assert torch.equal(average.module.weight, other.module.weight)
    with pytest.raises(ValueError, match=r"decay: got 1\.0"):
        ExponentialMovingAverage(module, 1.0)


def test_one_cycle_rises_to_the_rate_and_falls_to_almost_nothing() -> None:
    rates = _rates("one_cycle", 1e-3, 100)
    assert max(rates) == pytest.approx(1e-3)
    assert 25 <= rates.index(max(rates)) <= 35
    assert rates[0] == pytest.approx(1e-3 / 25)
    assert rates[-1] < 1e-6
    assert set(_rates("constant", 1e-3, 100)) == {1e-3}
    assert len(_rates("one_cycle", 1e-3, 1)) == 1


def _rates(schedule: str, rate: float, total: int) -> list[float]:
    optimiser = torch.optim.Adam(nn.Linear(1, 1).parameters(), lr=rate)
    scheduler = learning_rate_schedule(optimiser, schedule, total)  # type: ignore[arg-type]
    rates = []
    for _ in range(total):
        rates.append(float(optimiser.param_groups[0]["lr"]))
        assert optimiser.param_groups[0]["betas"] == (0.9, 0.999)
        optimiser.step()
        scheduler.step()
    return rates


def test_a_device_that_is_not_there_is_refused() -> None:
    assert resolve_device(Config(device="cpu")).type == "cpu"
    if torch.cuda.is_available():
        assert resolve_device(Config(device="auto")).type == "cuda"
    else:
        assert resolve_device(Config(device="auto")).type == "cpu"
        with pytest.raises(DeviceError, match="device: got 'cuda'"):
            resolve_device(Config(device="cuda"))


def test_torch_is_configured_to_repeat_itself() -> None:
    assert configure_torch(Config(device="cpu", threads=2, seed=4)).type == "cpu"
    assert torch.get_num_threads() == 2
    assert torch.are_deterministic_algorithms_enabled()
    first = torch.rand(3)
    configure_torch(Config(device="cpu", threads=1, seed=4))
    assert torch.get_num_threads() == 1
    assert torch.equal(torch.rand(3), first)


def test_a_log_goes_on_after_the_step_it_is_told(tmp_path: Path) -> None:
    with MetricLog(tmp_path, after=0) as log:
        for step in (1, 2, 3):
            log.write(step, {"loss": step / 3, 'odd, "name"': math.inf})
    path = tmp_path / "metrics.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])  # killed while writing
    with MetricLog(tmp_path, after=2) as log:
        log.write(3, {"loss": 1.0, 'odd, "name"': math.inf})
    assert path.read_bytes() == whole
    series = read_metrics(path)
    assert series["loss"][0].tolist() == [1, 2, 3]
    assert series["loss"][1].tolist() == [1 / 3, 2 / 3, 1.0]
    assert series['odd, "name"'][1].tolist() == [math.inf] * 3
    path.write_bytes(whole + b"4,loss,\xff\n5," + b"x" * 200_000 + b",1.0\nnone\n")  # damaged
    assert read_metrics(path)["loss"][0].tolist() == [1, 2, 3]
    with MetricLog(tmp_path, after=0):
        assert read_metrics(path) == {}
    assert read_metrics(tmp_path / "none.csv") == {}
