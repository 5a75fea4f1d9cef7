"""The critic's stage: from latents and a served prior to a published critic."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from pydantic import JsonValue

from common.config import dump
from common.nn.critic import Critic
from common.rpc import stage
from common.rpc.entry import explains_itself
from common.rpc.errors import CallInterruptedError
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.rpc.signals import StopSignals
from common.rpc.stage import Progress, StageServicer
from common.store import (
    LatentTable,
    Meta,
    Stopped,
    open_latents,
    owning_variant,
    stage_sections,
    stage_spec,
)
from common.training import Checkpoints, configure_torch, train
from common.training.context import StageContext
from ldcq.v1 import stage_pb2_grpc
from services.qlearner.learner import CriticLearner
from services.qlearner.preparation import candidate_source, connect_prior, validation_batch
from services.qlearner.replay import PrioritisedReplay
from services.qlearner.transitions import Transitions, training_rows

STAGE = "critic"
_LOGGER = logging.getLogger(__name__)


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the critic, unless it is there already.

    Args:
        context: Its `prior_targets` must name the service of the prior that this variant uses.

    Returns:
        The critic's version.

    Raises:
        ConfigError: No address of the prior service was given, or one update needs more latents
            than the prior gives per call.
        LineageError: The latents are another VAE's.
        ModelVersionError: The service answered with another prior than the store's.
        PriorUnavailableError: The prior service stayed away; the last checkpoint is there to
            resume from.
        Stopped: The process was asked to end; it can be resumed.
    """
    try:
        return _run(context)
    except CallInterruptedError as error:
        raise Stopped(str(error)) from error


def run_stage(settings: ServiceSettings, progress: Progress, stop: threading.Event) -> bool:
    """Runs the stage of a service process and reports how it ends.

    Returns:
        Whether the critic is there; False where the stage failed (logged and in the progress) or
        was stopped.
    """
    context = StageContext(
        base=settings.config,
        store=settings.store,
        progress=progress,
        variant=settings.variant,
        stop=stop,
        prior_targets=settings.prior_targets,
    )
    try:
        run(context)
    except Stopped as stopped:
        _LOGGER.info("%s", stopped)
        return False
    except Exception as error:
        if explains_itself(error):
            _LOGGER.error("%s: %s", STAGE, error)
            progress.failed(str(error))
        else:
            _LOGGER.exception("%s failed", STAGE)
            progress.failed(f"{type(error).__name__}: {error}")
        return False
    return True


def main(settings: ServiceSettings, on_start: Callable[[str], None] = lambda _: None) -> int:
    """Trains, with `StageService` answering meanwhile, and ends.

    Args:
        settings: Where to listen, the store, the prior's address.
        on_start: Told the address bound.

    Returns:
        The process's exit code: 0 published, 1 failed, 143 or 130 stopped by a signal.

    Raises:
        ServerError: The address cannot be bound.
    """
    progress = Progress(STAGE)
    server = Server(settings.listen, metrics_port=settings.metrics_port)
    add = stage_pb2_grpc.add_StageServiceServicer_to_server
    server.add(add, StageServicer(progress), stage.FULL_NAME)
    with StopSignals() as signals:
        on_start(server.start())
        try:
            done = run_stage(settings, progress, signals.event)
        finally:
            server.drain()
    return 0 if done else signals.exit_code or 1


def _run(context: StageContext) -> str:
    parents = _wait_for_parents(context)
    spec = stage_spec(context.config, "critic", parents)
    owner = owning_variant(context.base, context.variant, "critic")
    found = context.store.find("critic", spec)
    if found is not None:
        context.store.point("critic", found, owner)
        _LOGGER.info("critic %s is there already", found)
        context.progress.published(found, reused=True)
        return found
    table = open_latents(context.store, parents["latents"], vae_version=parents["vae"])
    critic = _train(context, parents["prior"], spec, table)
    meta = Meta(
        kind="critic",
        implementation="clipped_double_q",
        spec=spec,
        parents=parents,
        dimensions={
            **table.meta.dimensions,
            "state": critic.state_dim,
            "latent": critic.latent_dim,
        },
        details=critic.details(),
    )
    tensors = {name: value.cpu().numpy() for name, value in critic.state_dict().items()}
    version = context.store.publish(meta, tensors, dump(context.config), owner)
    _LOGGER.info("published critic %s", version)
    context.progress.published(version)
    return version


def _wait_for_parents(context: StageContext) -> dict[str, str]:
    """Waits for a VAE, its latents and the prior of those, made with this configuration.

    After a change of configuration the artifacts of the one before are still there: waiting for
    those that belong together, instead of taking what is there, lets the stages run side by side.
    """
    parents = {"vae": context.wait_for("vae")}
    for kind in ("latents", "prior"):
        sections = stage_sections(context.config, kind)
        expected = dict(parents)

        def belongs(
            meta: Meta, sections: object = sections, expected: dict[str, str] = expected
        ) -> bool:
            return meta.spec.get("config") == sections and expected.items() <= meta.parents.items()

        parents[kind] = context.store.wait(
            kind,
            owning_variant(context.base, context.variant, kind),
            accept=belongs,
            on_wait=context.progress.waiting,
            stop=context.stop,
        )
    return parents


def _train(
    context: StageContext, prior_version: str, spec: dict[str, JsonValue], table: LatentTable
) -> Critic:
    config = context.config
    device = configure_torch(config)
    rows = training_rows(table, config.critic.windows, config.seed)
    transitions = Transitions.of(table, rows, device)
    replay = PrioritisedReplay(config.critic.replay, len(transitions))
    owner = owning_variant(context.base, context.variant, "critic")
    with connect_prior(context, prior_version) as client:
        validation = validation_batch(context, client, prior_version, table, device)
        source = candidate_source(context, client, prior_version, table, transitions, replay)
        learner = CriticLearner(config, transitions, replay, source, validation)
        train(
            learner,
            # Variants train side by side, each with logs of its own.
            stage=STAGE if owner == context.base.variant else f"{STAGE}-{owner}",
            total=config.critic.updates,
            checkpoints=Checkpoints(
                context.store.root, STAGE, spec, config.training.keep_checkpoints
            ),
            progress=context.progress,
            config=config.training,
            logs=context.store.root / "logs",
            stop=context.stop,
        )
    return learner.critic
