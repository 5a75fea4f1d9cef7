"""The stage: latents to a published prior, whichever implementation the configuration names."""

from __future__ import annotations

import logging
import threading

from common.config import dump
from common.rpc import stage
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.rpc.signals import StopSignals
from common.store import (
    Meta,
    Stopped,
    open_latents,
    owning_variant,
    stage_spec,
)
from common.training import Checkpoints, configure_torch, train
from common.training.context import StageContext
from ldcq.v1 import stage_pb2_grpc
from services.prior.learner import PriorLearner
from services.prior.protocol import find_prior

_LOGGER = logging.getLogger(__name__)


def run(context: StageContext) -> str:
    """Trains (or resumes) and publishes the prior, unless it is there already.

    Args:
        context: Configuration, store and where to report.

    Returns:
        The prior's version.

    Raises:
        UnknownPriorError: `prior.implementation` is not registered.
        LineageError: The latents are another VAE's.
        StoreError: The latents are damaged, or the store does not take the artifact.
        Stopped: Asked to stop; a checkpoint was saved.
        DivergedError: The loss became NaN or infinite.
    """
    config, store = context.config, context.store
    find_prior(config.prior.implementation)
    parents = {kind: context.wait_for(kind) for kind in ("vae", "latents")}
    spec = stage_spec(config, "prior", parents)
    owner = owning_variant(context.base, context.variant, "prior")
    found = store.find("prior", spec)
    if found is not None:
        store.point("prior", found, owner)
        _LOGGER.info("prior %s is there already", found)
        context.progress.published(found, reused=True)
        return found
    table = open_latents(store, parents["latents"], vae_version=parents["vae"])
    learner = PriorLearner(config, table, configure_torch(config))
    # Variants train side by side, each with logs of its own.
    logs = "prior" if owner == context.base.variant else f"prior-{owner}"
    train(
        learner,
        stage=logs,
        total=learner.total,
        checkpoints=Checkpoints(store.root, "prior", spec, config.training.keep_checkpoints),
        progress=context.progress,
        config=config.training,
        logs=store.root / "logs",
        stop=context.stop,
    )
    meta = Meta(
        kind="prior",
        implementation=config.prior.implementation,
        spec=spec,
        parents=parents,
        dimensions={
            **table.meta.dimensions,
            "state": table.state.shape[1],
            "latent": table.latent_mean.shape[1],
            "goal": 0,
        },
        details=learner.published.details(),
    )
    tensors = {
        name: tensor.cpu().numpy() for name, tensor in learner.published.state_dict().items()
    }
    version = store.publish(meta, tensors, dump(config), owner)
    context.progress.published(version)
    return version


def run_stage(settings: ServiceSettings, progress: stage.Progress, stop: threading.Event) -> str:
    """`run` as a process does it: whoever watches the progress also learns of a failure.

    Returns:
        The prior's version. Raises like `run`.
    """
    context = StageContext(
        settings.config, settings.store, progress, settings.variant, stop, settings.prior_targets
    )
    try:
        return run(context)
    except Stopped:
        raise
    except Exception as error:
        progress.failed(str(error))
        raise


def main(settings: ServiceSettings) -> int:
    """Trains, publishes and ends, with the progress to be watched meanwhile.

    Returns:
        The exit code: 0, or 143 or 130 where a signal ended it.

    Raises:
        ServerError: The address cannot be bound.
        Exception: See `run`.
    """
    server = Server(settings.listen, metrics_port=settings.metrics_port)
    progress = stage.Progress("prior")
    add = stage_pb2_grpc.add_StageServiceServicer_to_server
    server.add(add, stage.StageServicer(progress), stage.FULL_NAME)
    with StopSignals() as signals:
        server.start()
        try:
            run_stage(settings, progress, signals.event)
            return 0
        except Stopped:
            return signals.exit_code
        finally:
            server.drain()
