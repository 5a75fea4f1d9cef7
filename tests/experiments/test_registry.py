from pathlib import Path

import pytest
import torch
from pydantic import JsonValue

from common.store import Meta, Store
from common.store.timings import Stopwatch
from experiments import registry
from experiments.experiment import Budget, Context, Experiment, Findings, Result, Row
from experiments.page import PAGE
from ldcq.config import Config, ConfigError


class NoPipeline:
    """For experiments that run no configuration."""

    def run(self, config: Config) -> str:
        raise AssertionError(config.name)

    def evaluate(self, config: Config) -> str:
        raise AssertionError(config.name)

    def train(self, config: Config, stage: str, variant: str = "main") -> str:
        raise AssertionError(f"{config.name} {stage} {variant}")

    def say(self, text: str) -> None:
        raise AssertionError(text)


def perform(tmp_path: Path, name: str = "horizon", **changes: object) -> Result:
    arguments: dict[str, object] = {
        "scale": "smoke",
        "seeds": None,
        "dataset": None,
        "folder": tmp_path / "out",
        "pipeline": NoPipeline(),
        "store": Store(tmp_path / "store"),
    }
    return registry.perform(name, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("horizons", {}, "experiment: got 'horizons', expected one of demo, maze2d"),
        ("horizon", {"scale": "tiny"}, "--scale tiny: expected one of smoke, small, full"),
        ("horizon", {"seeds": 0}, "--seeds 0: expected at least 1"),
        ("random-walk", {"dataset": "a/b-v0"}, "random-walk makes its own data"),
        ("door-human", {}, "set LDCQ_THIRD_PARTY_DATA"),
        ("horizon", {"folder": Path(__file__) / "out"}, "is no folder that can be written"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    tmp_path: Path, name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        perform(tmp_path, name, **changes)
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_result_has_the_time_of_all_its_stages_whoever_trained_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seeds share a VAE of 100 s; each has a critic of its own, 7 s and then 8 s."""

    def made(
        store: Store, kind: str, spec: dict[str, JsonValue], seconds: float, updates: int = 0
    ) -> str:
        parents = {"vae": str(spec["vae"])} if "vae" in spec else {}
        meta = Meta(kind=kind, spec=spec, parents=parents)
        with monkeypatch.context() as patch:
            patch.setattr("common.store.timings.time.monotonic", iter([0.0, seconds]).__next__)
            with Stopwatch(store, kind, meta.spec) as watch:
                watch.updates = updates or None
                return store.publish(meta, {}, "")

    trained = Store(tmp_path / "store")
    vae = made(trained, "vae", {}, 100.0)
    critics = [
        made(trained, "critic", {"seed": seed, "vae": vae}, 7.0 + seed, 100 * (seed + 1))
        for seed in range(2)
    ]

    def run(context: Context) -> Findings:
        versions = {f"critic, seed {seed}": critics[seed] for seed in context.seeds}
        return Findings([Row("ldcq", seeds=len(context.seeds))], artifacts=versions)

    fake = Experiment("horizon", "Title", "Shows.", "Fig. 4", {"smoke": 1}, "Not tuned.", run)
    monkeypatch.setattr(registry, "find", lambda _: fake)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    first, more = perform(tmp_path), perform(tmp_path, seeds=2)
    assert (first.seconds, more.seconds) == (107.0, 115.0)
    assert not more.lost
    assert more.budgets == [Budget("vae", 1, None, 100.0), Budget("critic", 2, 150, 7.5)]
    assert "| critic | 2 | 150 | 8 s |" in (tmp_path / "out" / PAGE).read_text()
    assert first.command == "ldcq experiment horizon --scale smoke --seeds 1"
    assert more.seeds == (0, 1)
    assert (tmp_path / "out" / "results.json").is_file()
    assert torch.backends.cpu.get_cpu_capability() in first.hardware
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in first.hardware
    assert first.settings["horizon"] == (10, 30)
    assert not more.shares_models
    made(trained, "evaluation", {"vae": vae}, 1.0)
    assert perform(tmp_path).shares_models
    assert "It shares models with other runs on the store." in (tmp_path / "out" / PAGE).read_text()
