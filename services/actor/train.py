"""The actor's stage: waits for models, plays, scores, publishes, writes the report."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from common.data import NoEnvironmentError, is_on_this_machine, load_task
from common.store import made_from, stage_spec
from common.store.timings import Stopwatch
from common.training import configure_torch
from common.training.context import StageContext
from common.training.process import train_process
from ldcq.config import override
from ldcq.learning.learner import Stopped
from ldcq.policies.costs import check_costs
from services.actor.evaluate import OnStep, evaluation_parents, prepare_evaluation
from services.actor.method_policy import method_policy
from services.actor.models import Models, followed_artifacts, method_models, model_loader
from services.actor.priors import Priors
from services.actor.video import save_video, video_path

STAGE = "evaluation"
_LOGGER = logging.getLogger(__name__)
_REPORT_SECONDS = 0.5


def run(context: StageContext) -> str:
    """Evaluates the configured methods, unless that has been done, and writes the report. Where
    there are none, or there is no environment to play in, says so.

    Args:
        context: Its `prior_targets` must name the prior service of every variant that a method
            uses.

    Returns:
        The version of the evaluation; empty where nothing was played.

    Raises:
        ConfigError: The address of a prior service is missing, n is more than it gives in one
            call, or the cost that a plan is judged by cannot be had.
        DataError: Dataset or environment cannot be had.
        SpaceMismatchError: The environment's spaces are not those of the models.
        RpcError: A prior service went away, or serves another model than the critic was trained
            with.
        Stopped: The process was asked to end.
    """
    if not context.base.evaluation.methods:
        return _without_scores(context, "evaluation.methods is empty")
    try:
        with Priors(context.base, context.prior_targets, context.store) as priors:
            version = _run(context, priors)
    except NoEnvironmentError as error:
        return _without_scores(context, str(error))
    _log_scores(context, version)
    return version


main = partial(train_process, STAGE, run)
"""Evaluates, with `StageService` answering meanwhile, and ends: `train_process` of this stage."""


def _without_scores(context: StageContext, reason: str) -> str:
    _LOGGER.warning("nothing is scored: %s", reason)
    context.progress.published("")
    return ""


def _run(context: StageContext, priors: Priors) -> str:
    base, store = context.base, context.store
    check_costs(base)
    device = configure_torch(base)
    if is_on_this_machine(base.data, store.root):
        # An environment that does not fit the data is better known before anything is trained.
        load_task(base, store.root)
    models = _models(context, device)
    parents = evaluation_parents(base, store, models)
    found = made_from(store, base, base.variant, STAGE, parents)
    if found is not None:
        store.point(STAGE, found, context.variant)
        if base.evaluation.video and models and not video_path(store.root, found).is_file():
            _wait_for_priors(context, priors, models)
            _film(context, found, priors, models)
        _report(context, found, priors)
        context.progress.published(found, reused=True)
        return found
    _wait_for_priors(context, priors, models)
    policies = {name: method_policy(base, name, used, priors) for name, used in models.items()}
    evaluation = prepare_evaluation(base, store, policies, _reporter(context))
    with Stopwatch(store, STAGE, stage_spec(base, STAGE, parents)):
        list(evaluation.play())
        version = evaluation.publish(store, parents, context.variant)
    if base.evaluation.video and policies:
        save_video(store.root, version, evaluation)
    _report(context, version, priors, evaluation.total_steps)
    context.progress.published(version)
    return version


def _report(context: StageContext, version: str, priors: Priors, total: int = 0) -> None:
    if context.base.evaluation.report:
        from services.actor.report.writing import ensure_report  # matplotlib: not for every player

        context.progress.running(total, total, {}, "writing the report")
        ensure_report(context.base, context.store, version, priors)


def _film(context: StageContext, version: str, priors: Priors, models: dict[str, Models]) -> None:
    """The video of an evaluation that was published without: the first episode, played again."""
    method, used = next(iter(models.items()))
    settings = context.base.evaluation.methods[method]
    shown = {"evaluation.methods": {method: settings.model_dump()}, "evaluation.episodes": 1}
    base = override(context.base, shown)
    policies = {method: method_policy(base, method, used, priors)}
    evaluation = prepare_evaluation(base, context.store, policies, _reporter(context))
    list(evaluation.play())
    save_video(context.store.root, version, evaluation)


def _models(context: StageContext, device: torch.device) -> dict[str, Models]:
    """The models of every method, waiting for those that are still being trained."""
    models = {}
    for method, settings in context.base.evaluation.methods.items():
        parts = []
        for kind, _ in followed_artifacts(context.base, method):
            version = replace(context, variant=settings.variant).wait_for(kind)
            load = model_loader(context.store, kind, device)
            parts.append(load(context.store.load(kind, version)))
        if parts:
            models[method] = method_models(context.base, method, parts)
    return models


def _log_scores(context: StageContext, version: str) -> None:
    """One line per method: where services run as containers, their logs are what is watched."""
    rows: Any = context.store.meta(STAGE, version).details["rows"]
    for row in rows:
        names = ("success_score", "return", "first_hit")
        columns = {name: row[name] for name in names if row.get(name)}
        scores = ", ".join(
            f"{name.replace('_', ' ')} {score['mean']:.1f} "
            f"[{score['ci_low']:.1f}, {score['ci_high']:.1f}]"
            for name, score in columns.items()
        )
        _LOGGER.info("%s: %s over %d episodes", row["method"], scores, row["episodes"])


def _wait_for_priors(context: StageContext, priors: Priors, models: dict[str, Models]) -> None:
    """Until every prior service serves the version that its methods are to be executed with."""
    for method, used in models.items():
        if not used.prior_version:
            continue
        variant = context.base.evaluation.methods[method].variant
        progress = context.progress.waiting
        priors.wait_ready(variant, used.served_version, progress, context.stop)


def _reporter(context: StageContext) -> OnStep:
    """Passes environment steps on to the stage's progress, now and then, and ends a stage that is
    to stop.
    """
    last = 0.0

    def on_step(method: str, done: int, total: int) -> None:
        nonlocal last
        if context.stop.is_set():
            raise Stopped(f"{STAGE}: stopped; it is played from the start next time")
        if time.monotonic() - last > _REPORT_SECONDS:
            last = time.monotonic()
            context.progress.running(done, total, {}, f"rolling out {method}")

    return on_step
