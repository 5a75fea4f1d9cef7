from pathlib import Path

import pytest

from common.store import Meta, Store
from experiments import registry
from experiments.experiment import Context, Experiment, Findings, Result, Row
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
        ("horizons", {}, "experiment: got 'horizons', expected one of maze2d, door-human"),
        ("horizon", {"scale": "tiny"}, "--scale tiny: expected one of smoke, small, full"),
        ("horizon", {"seeds": 0}, "--seeds 0: expected at least 1"),
        ("random-walk", {"dataset": "a/b-v0"}, "random-walk makes its own data"),
        ("door-human", {}, "set LDCQ_THIRD_PARTY_DATA"),
    ],
)
def test_what_cannot_be_run_is_refused_at_once(
    tmp_path: Path, name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        perform(tmp_path, name, **changes)
    assert message in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_a_call_that_found_everything_there_reports_the_time_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("experiments.registry.time.monotonic", lambda: now[0])
    durations = iter([100.0, 3.0, 4.0, 50.0, 10.0])

    def run(context: Context) -> Findings:
        meta = Meta(kind="vae", spec={"seeds": list(context.seeds)})
        context.store.publish(meta, {}, "")
        seconds = next(durations)
        now[0] += seconds
        if seconds == 50.0:
            raise KeyboardInterrupt
        return Findings([Row("ldcq", seeds=len(context.seeds))])

    fake = Experiment("horizon", "Title", "Shows.", "Fig. 4", {"smoke": 1}, run)
    monkeypatch.setattr(registry, "find", lambda _: fake)
    first = perform(tmp_path)
    again = perform(tmp_path)
    more = perform(tmp_path, seeds=2)
    assert (first.wall_seconds, again.wall_seconds, more.wall_seconds) == (100.0, 100.0, 4.0)
    with pytest.raises(KeyboardInterrupt):
        perform(tmp_path, seeds=3)
    assert perform(tmp_path, seeds=3).wall_seconds == 60.0, "interrupted work counts"
    assert first.command == "ldcq experiment horizon --scale smoke --seeds 1"
    assert more.seeds == (0, 1)
    assert (tmp_path / "out" / "results.json").is_file()
