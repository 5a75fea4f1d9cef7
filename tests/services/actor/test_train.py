"""The stage over a real store, real environments and real prior services."""

from __future__ import annotations

import base64
import io
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from PIL import Image
from prometheus_client import REGISTRY

from common.rpc.clients import PriorClient
from common.rpc.errors import PriorUnavailableError
from common.store import Artifact, Store
from common.training import configure_torch
from ldcq.config import Config, override
from ldcq.data.episodes import DataError
from ldcq.learning.learner import Stopped
from ldcq.v1 import stage_pb2
from services.actor import train
from services.actor.evaluate import Evaluation, prepare_evaluation
from services.actor.method_policy import method_policy
from services.actor.models import Models, model_loader
from services.actor.priors import MissingPriorError, Priors
from services.actor.report.writing import write_report
from services.actor.scores import episode_returns
from services.actor.video import save_video, video_path
from tests.services.actor.conftest import Pipeline

TOY = "ldcq-tests/Toy-v0"


class Toy(gymnasium.Env[Any, Any]):
    """The dataset's spaces, but no map, no first hit; it can be photographed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012

    built, closed = 0, 0

    def __init__(self, render_mode: str | None = None) -> None:
        Toy.built += 1
        box = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float64)
        self.observation_space = gymnasium.spaces.Dict({"observation": box})
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.state, self.steps = self.np_random.normal(size=4), 0
        return {"observation": self.state.copy()}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.state[:2] += 0.1 * action
        self.steps += 1
        reward = -float(np.linalg.norm(self.state[:2]))
        return {"observation": self.state.copy()}, reward, False, False, {}

    def close(self) -> None:
        Toy.closed += 1

    def render(self) -> Any:
        picture = np.full((30, 40, 3), 200, np.uint8)
        picture[:, : self.steps] = 0
        return picture


class SaysSuccess(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Every other episode's third step succeeds."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.good, self.steps = (seed or 0) % 2 == 0, 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        *result, info = self.env.step(action)
        return *result, {**info, "success": self.good and self.steps == 3}


@pytest.fixture(scope="module")
def evaluated(pipeline: Pipeline) -> Artifact:
    """The stage's evaluation of all methods."""
    return pipeline.store.load("evaluation", train.run(pipeline.context()))


def _toy(config: Config) -> Config:
    if TOY not in gymnasium.registry:
        gymnasium.register(
            TOY,
            entry_point=Toy,  # type: ignore[arg-type]
            max_episode_steps=12,
        )
    return override(
        config,
        {
            "evaluation.environment": TOY,
            "evaluation.methods": {"prior": {"policy": "prior"}},
            "evaluation.reference_scores": None,
        },
    )


def _models(pipeline: Pipeline) -> Models:
    artifact = pipeline.store.load("prior", pipeline.store.current("prior") or "")
    device = configure_torch(pipeline.config)
    models = model_loader(pipeline.store, "prior", device)(artifact)
    assert isinstance(models, Models)
    return models


def _play(
    pipeline: Pipeline, config: Config, only: Sequence[str] = (), **clients: PriorClient
) -> Evaluation:
    """Plays the methods outside the stage, all (or `only` some) with the main pipeline's models."""
    with Priors(config, pipeline.targets, pipeline.store) as priors:
        priors._clients |= {pipeline.targets[name]: client for name, client in clients.items()}
        models, methods = _models(pipeline), only or config.evaluation.methods
        policies = {name: method_policy(config, name, models, priors) for name in methods}
        evaluation = prepare_evaluation(config, pipeline.store, policies)
        for _ in evaluation.play():
            pass
    return evaluation


def test_methods_play_in_the_same_environments(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Toy, "built", 0)
    monkeypatch.setattr(Toy, "closed", 0)
    methods = {name: {"policy": "prior"} for name in ("first", "second", "third", "fourth")}
    config = override(_toy(pipeline.config), {"evaluation.methods": methods})
    evaluation = _play(pipeline, config)
    settings = config.evaluation
    assert {len(played) for played in evaluation.episodes.values()} == {settings.episodes}
    side_by_side = 2 * min(settings.environments, settings.episodes)
    # One more shows the task's spaces, and one is compared with the models and timed.
    assert 0 < Toy.built <= side_by_side + 2
    assert Toy.closed == Toy.built


def test_rows_say_everything_and_agree_with_the_rewards(evaluated: Artifact) -> None:
    rows: Any = evaluated.meta.details["rows"]
    assert [row["method"] for row in rows] == ["ldcq", "bcq_h", "prior", "behaviour"]
    reference: Any = evaluated.meta.details["reference_scores"]
    low, high = reference
    for row in rows:
        rewards = evaluated.tensors[f"{row['method']}/rewards"]
        score = 100 * (episode_returns(list(rewards)) - low) / (high - low)
        assert row["return"]["mean"] == pytest.approx(score.mean())
        assert row["return"]["ci_low"] <= row["return"]["mean"] <= row["return"]["ci_high"]
        assert row["success"] == pytest.approx((rewards > 0).any(axis=1).mean())
        assert row["first_hit"]["mean"] >= row["return"]["mean"] - 1e-9
        assert (row["seed"], row["normalised"]) == (1000, True)
    assert [row["episodes"] for row in rows[:3]] == [3, 3, 3]
    assert [row["candidates"] for row in rows] == [6, 6, 1, None]
    assert [row["execute_steps"] for row in rows] == [4, 4, 4, None]


def test_lineage_names_every_model_of_every_variant(
    evaluated: Artifact, pipeline: Pipeline
) -> None:
    store = pipeline.store
    vae = store.current("vae") or ""
    assert evaluated.meta.parents == {
        "dataset": store.meta("vae", vae).parents["dataset"],
        "vae": vae,
        "prior": store.current("prior"),
        "critic": store.current("critic"),
        "prior.bcq_h": store.current("prior", "bcq_h"),
        "critic.bcq_h": store.current("critic", "bcq_h"),
    }


def test_trajectories_start_and_end_with_their_episodes(evaluated: Artifact) -> None:
    positions = evaluated.tensors["ldcq/positions"]
    assert positions.shape == (3, 301, 2)
    assert np.isfinite(positions).all()
    assert not np.array_equal(positions[0, 0], positions[1, 0])
    # The same episodes for every method: the seed is the episode's.
    np.testing.assert_array_equal(positions[:, 0], evaluated.tensors["prior/positions"][:, 0])


def test_the_second_run_plays_nothing_and_logs_the_scores(
    evaluated: Artifact, pipeline: Pipeline, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "services.actor.train")
    report = pipeline.store.root / "report.html"
    written = report.stat().st_mtime_ns
    context = pipeline.context()
    assert train.run(context) == evaluated.version
    update = context.progress.snapshot()
    assert (update.state, update.reused) == (stage_pb2.STAGE_STATE_PUBLISHED, True)
    assert update.step == 0
    assert report.stat().st_mtime_ns == written
    rows: Any = evaluated.meta.details["rows"]
    for row in rows:
        assert f"{row['method']}: return {row['return']['mean']:.1f} [" in caplog.text


def test_a_video_that_is_wanted_later_is_made_of_what_is_there(
    evaluated: Artifact, pipeline: Pipeline
) -> None:
    path = video_path(pipeline.store.root, evaluated.version)
    path.unlink(missing_ok=True)
    config = override(pipeline.config, {"evaluation.video": True})
    assert train.run(pipeline.context(config)) == evaluated.version
    made = path.stat().st_mtime_ns
    with Image.open(path) as picture:
        assert getattr(picture, "n_frames", 1) > 1
    train.run(pipeline.context(config))
    assert path.stat().st_mtime_ns == made


def test_a_report_that_is_not_wanted_is_not_written(
    evaluated: Artifact, pipeline: Pipeline
) -> None:
    report = pipeline.store.root / "report.html"
    aside = report.rename(report.with_suffix(".aside"))
    config = override(pipeline.config, {"evaluation.report": False})
    assert train.run(pipeline.context(config)) == evaluated.version
    assert not report.exists()
    aside.rename(report)


def test_the_same_seed_plays_the_same_episodes(evaluated: Artifact, pipeline: Pipeline) -> None:
    config = override(pipeline.config, {"evaluation.methods": {"prior": {"policy": "prior"}}})
    played = _play(pipeline, config).episodes["prior"]
    for episode, positions in zip(played, evaluated.tensors["prior/positions"], strict=True):
        np.testing.assert_array_equal(episode.positions, positions)
    config = override(config, {"evaluation.seed": 7})
    other = _play(pipeline, config).episodes["prior"]
    assert not np.array_equal(other[0].positions[0], played[0].positions[0])  # type: ignore[index]


def test_a_stopped_stage_says_so_and_publishes_nothing(pipeline: Pipeline) -> None:
    config = override(pipeline.config, {"evaluation.seed": 99})
    before = pipeline.store.versions("evaluation")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        train.run(pipeline.context(config, stop=stop))
    assert pipeline.store.versions("evaluation") == before


def test_a_missing_prior_address_is_named(pipeline: Pipeline) -> None:
    config = override(pipeline.config, {"evaluation.seed": 99})
    only_main = Pipeline(config, pipeline.store, {"main": pipeline.targets["main"]})
    with pytest.raises(MissingPriorError, match=r"variant 'bcq_h' .*--prior bcq_h=HOST:PORT"):
        train.run(only_main.context())


def test_an_environment_of_other_spaces_is_refused_before_there_are_models(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    """Nothing has been trained in this store: waiting for a critic would not end."""
    config = override(pipeline.config, {"evaluation.environment": "CartPole-v1"})
    empty = Store(tmp_path / "store")
    (empty.root / "datasets").symlink_to(pipeline.store.root / "datasets")
    with pytest.raises(DataError, match="CartPole-v1"):
        train.run(pipeline.context(config, empty))


def test_a_prior_that_is_away_ends_the_rollout_with_its_address(pipeline: Pipeline) -> None:
    away = PriorClient("127.0.0.1:1", patience=0.2)
    config = override(pipeline.config, {"evaluation.methods": {"prior": {"policy": "prior"}}})
    with pytest.raises(PriorUnavailableError, match=r"127\.0\.0\.1:1.*ldcq serve prior"):
        _play(pipeline, config, main=away)


def test_the_report_holds_its_pictures_and_its_numbers(
    evaluated: Artifact, pipeline: Pipeline
) -> None:
    root = pipeline.store.root
    html = (root / "report.html").read_text()
    for heading in ("Scores", "Where the methods go", "One rollout", "Latents of the data"):
        assert f"<h2>{heading}" in html
    for version in evaluated.meta.parents.values():
        assert version in html
    assert "http://" not in html
    assert "https://" not in html
    sources = re.findall(r'"data:image/(png|gif);base64,([^"]+)"', html)
    kinds = [kind for kind, _ in sources]
    # Each figure in both themes: scores, maze, latents, and the log of every stage trained so far.
    logs = set(re.findall(r"Training of the ([\w@-]+)", html))
    assert logs >= {"vae", "prior", "critic"}
    assert len(logs) >= 5
    assert kinds.count("png") == 2 * (3 + len(logs))
    assert kinds.count("gif") == 1
    for _, content in sources:
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            colours = image.convert("RGB").getcolors(1 << 24)
            assert len(colours or []) > 3  # something is drawn
    beside = json.loads((root / "report.json").read_text())
    assert beside["rows"] == evaluated.meta.details["rows"]
    assert beside["evaluation_version"] == evaluated.version
    assert Config.model_validate(beside["config"]) == pipeline.config


def test_a_task_without_map_and_a_report_without_prior_service(
    evaluated: Artifact, pipeline: Pipeline
) -> None:
    config = _toy(pipeline.config)
    played = _play(pipeline, config)
    version = played.publish(pipeline.store, evaluated.meta.parents, "main")
    evaluation = pipeline.store.load("evaluation", version)
    (row,) = played.rows()
    assert row["first_hit"] is None
    assert row["success"] is None
    assert "prior/positions" not in evaluation.tensors
    with Priors(config, pipeline.targets, pipeline.store) as priors:
        played.policies = {"prior": method_policy(config, "prior", _models(pipeline), priors)}
        save_video(pipeline.store.root, version, played)
    with Image.open(video_path(pipeline.store.root, version)) as frames:
        assert frames.size == (420, 315)
        assert frames.n_frames == 12  # type: ignore[attr-defined]

    path = write_report(config, pipeline.store, version, Priors(config, {}, pipeline.store))
    html = path.read_text()
    assert "Where the methods go" not in html
    assert "first hit" not in html
    assert "Not drawn: no prior service is known" in html


def _counted(method: str) -> tuple[float, float]:
    """Episodes with success, and all, that the metric has."""
    found = (
        REGISTRY.get_sample_value(f"ldcq_actor_episode_success_{part}", {"method": method})
        for part in ("sum", "count")
    )
    done, count = (value or 0.0 for value in found)
    return done, count


def test_success_is_counted_as_it_is_scored(pipeline: Pipeline) -> None:
    before = _counted("prior")
    config = override(pipeline.config, {"evaluation.methods": {"prior": {"policy": "prior"}}})
    (row,) = _play(pipeline, config).rows()
    done, count = (now - then for now, then in zip(_counted("prior"), before, strict=True))
    assert count == row["episodes"]
    assert done / count == row["success"]


def test_success_is_the_score_where_the_configuration_says_so(pipeline: Pipeline) -> None:
    wrappers = ["tests.services.actor.test_train:SaysSuccess"]
    changes = {
        "evaluation.environment": {"id": TOY, "wrappers": wrappers, "max_episode_steps": 9},
        "evaluation.score": "success",
        "evaluation.methods": {"prior": {"policy": "prior"}, "data": {"policy": "behaviour"}},
    }
    evaluation = _play(pipeline, override(_toy(pipeline.config), changes), only=["prior"])
    row, data = evaluation.rows()
    done = [episode.index % 2 == 0 for episode in evaluation.episodes["prior"]]
    assert row["success"] == np.mean(done)
    assert row["success_score"]["mean"] == pytest.approx(100 * np.mean(done))  # type: ignore[call-overload, index]
    assert (data["success"], data["success_score"]) == (None, None)  # data say no success
    assert {len(episode.rewards) for episode in evaluation.episodes["prior"]} == {9}
    version = evaluation.publish(pipeline.store, {}, "scored")
    found = pipeline.store.load("evaluation", version)
    assert found.meta.details["score"] == "success"
    np.testing.assert_array_equal(found.tensors["prior/success"], done)
    html = write_report(
        evaluation.base, pipeline.store, version, Priors(evaluation.base, {}, pipeline.store)
    ).read_text()
    assert "<th>success %</th>" in html
    assert "<th>success</th>" not in html
