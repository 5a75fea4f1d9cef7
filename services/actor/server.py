"""`ActorService`: the policies over gRPC."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from functools import partial

import grpc
import numpy as np
from numpy.typing import NDArray

from common.rpc import deadlines
from common.rpc.codec import decode, encode_result, not_finite
from common.rpc.errors import (
    FailedPreconditionError,
    InvalidFieldError,
    ModelVersionError,
    NotReadyError,
    QueueFullError,
    TooLargeError,
)
from common.rpc.retry import Backoff
from common.rpc.server import Server
from common.rpc.settings import ServiceSettings
from common.store import Store, StoreError
from common.training import configure_torch
from common.training.process import serve_process
from ldcq.config import Config, ConfigError, resolve_variant
from ldcq.data.episodes import DataError
from ldcq.latent_prior import MAX_ROWS
from ldcq.learning.learner import Stopped
from ldcq.policies.base import NotFiniteError, Plan
from ldcq.policies.costs import check_costs
from ldcq.registry import UnknownPriorError
from ldcq.v1 import actor_pb2, actor_pb2_grpc
from services.actor.evaluate import prepare_evaluation
from services.actor.method_policy import MethodPolicy
from services.actor.methods import ServedMethods
from services.actor.plans import from_token, to_token
from services.actor.priors import MissingPriorError, Priors
from services.actor.requests import evaluation_config, most_episodes, score_row
from services.actor.rollout import SpaceMismatchError
from services.actor.train import STAGE, run

FULL_NAME = actor_pb2.DESCRIPTOR.services_by_name["ActorService"].full_name

_LOGGER = logging.getLogger(__name__)

SWAP_PATIENCE_SECONDS = 5.0
"""How long an `Act` waits for the prior's servers and this one to agree on a model."""


class ActorServicer(actor_pb2_grpc.ActorServiceServicer):
    """Describe, Act and Evaluate over the methods that have models.

    Args:
        base: The main pipeline's configuration.
        store: Where the task's data are.
        methods: What is served.
    """

    def __init__(self, base: Config, store: Store, methods: ServedMethods) -> None:
        self._base, self._store, self._methods = base, store, methods
        self._evaluating = threading.Lock()
        self._draining = threading.Event()

    def Describe(  # noqa: N802
        self,
        request: actor_pb2.ActorServiceDescribeRequest,  # noqa: ARG002
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> actor_pb2.ActorServiceDescribeResponse:
        """What can be asked for; the dimensions are those of the first method.

        Raises:
            NotReadyError: No method has models yet.
        """
        ready = self._methods.ready
        first = ready[0] if ready else self._first_name()
        models = self._methods.models(first)
        size = models.decoder.dimensions
        config = resolve_variant(self._base, self._base.evaluation.methods[first].variant)
        return actor_pb2.ActorServiceDescribeResponse(
            methods=ready,
            vae_version=models.vae_version,
            state_dim=size.state,
            action_dim=size.action,
            horizon=size.horizon,
            # A network without latents chooses at every step.
            execute_steps=min(config.actor.execute_steps or size.horizon, size.horizon),
            goal_dim=max(self._goal_dim(method) for method in ready),
            max_rows=MAX_ROWS,
            max_episodes=most_episodes(self._base),
        )

    def Act(  # noqa: N802
        self,
        request: actor_pb2.ActorServiceActRequest,
        context: grpc.ServicerContext,  # noqa: ARG002
    ) -> actor_pb2.ActorServiceActResponse:
        """Actions for E environments, and the token that carries their plans.

        Raises:
            InvalidFieldError: A field cannot be used, or the token is not one of ours.
            TooLargeError: More candidates are to be compared than in one call may be.
            FailedPreconditionError: The token, or the critic, belongs to other models than those
                served now.
            NotReadyError: The method has no models yet.
            RpcError: The prior service does not answer, or serves another prior than the models
                here belong to.
        """
        method = self._method(request.method)
        # When a prior is swapped, its servers and this one see it within seconds of each other.
        backoff = Backoff(deadlines.at_most(SWAP_PATIENCE_SECONDS), self._draining)
        while True:
            try:
                return _act(request, self._policy(method))
            except ModelVersionError:
                if not backoff.pause():
                    raise

    def Evaluate(  # noqa: N802
        self,
        request: actor_pb2.ActorServiceEvaluateRequest,
        context: grpc.ServicerContext,
    ) -> Iterator[actor_pb2.ActorServiceEvaluateResponse]:
        """Plays, one message per finished episode; the last message holds the rows.

        Raises:
            InvalidFieldError: An unknown method, or an impossible number of episodes.
            TooLargeError: More episodes than one call may ask for.
            FailedPreconditionError: The task cannot be loaded, or is not the one of the models.
            QueueFullError: Another evaluation is running.
            NotReadyError: A method has no models yet, or the server is stopping.
        """
        config = evaluation_config(self._base, request)
        if not self._evaluating.acquire(blocking=False):
            raise QueueFullError("another evaluation is running on this actor; try again later")
        cancelled = threading.Event()
        if not context.add_callback(cancelled.set):
            cancelled.set()  # the caller has left before
        try:
            yield from self._evaluate(config, cancelled)
        except Stopped as error:
            raise NotReadyError("the actor is stopping; ask again") from error
        except (DataError, SpaceMismatchError, ConfigError) as error:
            raise FailedPreconditionError(str(error)) from error
        finally:
            self._evaluating.release()

    def on_drain(self) -> None:
        """Ends evaluations under way: they can be asked for again."""
        self._draining.set()

    def _evaluate(
        self, config: Config, cancelled: threading.Event
    ) -> Iterator[actor_pb2.ActorServiceEvaluateResponse]:
        def go_on(_method: str, _done: int, _total: int) -> None:
            if self._draining.is_set() or cancelled.is_set():
                raise Stopped

        policies = {
            method: self._policy(method)
            for method, settings in config.evaluation.methods.items()
            if settings.policy != "behaviour"
        }
        evaluation = prepare_evaluation(config, self._store, policies, go_on)
        message, total = actor_pb2.ActorServiceEvaluateResponse(), evaluation.total
        for method, done in evaluation.play():
            message = actor_pb2.ActorServiceEvaluateResponse(
                method=method, episodes_done=done, episodes_total=total
            )
            if done < total:
                yield message
        message.rows.extend(score_row(row) for row in evaluation.rows())
        yield message

    def _method(self, name: str) -> str:
        """The method asked for; empty is the first."""
        known = self._methods.names
        if not name:
            return self._first_name()
        if name not in known:
            raise InvalidFieldError("method", repr(name), f"one of {', '.join(known)}")
        return name

    def _goal_dim(self, method: str) -> int:
        """G of the goals that `Act` asks for."""
        config = resolve_variant(self._base, self._base.evaluation.methods[method].variant)
        near = len(config.data.goal_indices) if config.actor.near_goal else 0
        return self._methods.models(method).goal_dim or near

    def _first_name(self) -> str:
        names = self._methods.names
        if not names:
            raise FailedPreconditionError("evaluation.methods names no method that acts")
        return names[0]

    def _policy(self, method: str) -> MethodPolicy:
        try:
            return self._methods.policy(method)
        except (MissingPriorError, ConfigError, StoreError, UnknownPriorError) as error:
            raise FailedPreconditionError(f"{method}: {error}") from error


def serve(settings: ServiceSettings, on_start: Callable[[str], None] = lambda _: None) -> int:
    """Serves until SIGTERM or SIGINT; with `train_first` runs the evaluation stage before. See
    `serve_process`.
    """
    # What is served follows the store: the models that a call is for are looked up again.
    targets, store = settings.prior_targets, settings.store
    with Priors(settings.config, targets, store, version_patience=0.0) as priors:
        if lacking := priors.lacking():
            said = (f"{', '.join(of)} (--prior {at}=HOST:PORT)" for at, of in lacking.items())
            _LOGGER.warning("until their prior is given, these cannot act: %s", "; ".join(said))
        add = partial(add_actor, priors=priors)
        return serve_process(STAGE, run, add, settings, on_start)


def add_actor(server: Server, settings: ServiceSettings, priors: Priors) -> ServedMethods:
    """Adds `ActorService` to a server that has not started; the methods returned are to be started
    after it.
    """
    base, on_change = settings.config, partial(server.set_serving, FULL_NAME)
    check_costs(base)
    device = configure_torch(base)
    methods = ServedMethods(base, settings.store, priors, device, on_change, settings.served)
    servicer = ActorServicer(base, settings.store, methods)
    server.add(actor_pb2_grpc.add_ActorServiceServicer_to_server, servicer, FULL_NAME)
    return methods


def _act(
    request: actor_pb2.ActorServiceActRequest, played: MethodPolicy
) -> actor_pb2.ActorServiceActResponse:
    policy = played.policy
    states = decode(request.states, field="states", shape=(None, policy.decoder.dimensions.state))
    if len(states) == 0:
        raise InvalidFieldError("states", f"shape {states.shape}", "at least one environment")
    if len(states) * policy.paths > MAX_ROWS:
        given = f"{len(states)} environments x {policy.paths} candidates"
        raise TooLargeError("states", given, MAX_ROWS)
    restart = None
    if request.HasField("restart"):
        shape = (len(states),)
        restart = decode(request.restart, field="restart", shape=shape, dtype=np.bool_)
    goals = _goals(request, played, len(states))
    plan = _plan(request, played, len(states))
    try:
        actions, plan = policy.act(states, goals, plan, restart, request.seed)
    except NotFiniteError as error:
        raise not_finite("states", error.row, "latents or their values") from error
    token = to_token(plan, method=played.method, model_versions=played.models.versions)
    return actor_pb2.ActorServiceActResponse(
        actions=encode_result(actions, "actions", "states"), plan_token=token
    )


def _goals(
    request: actor_pb2.ActorServiceActRequest, played: MethodPolicy, environments: int
) -> NDArray[np.float32] | None:
    goal_dim = played.policy.goal_dim
    if goal_dim == 0:
        return None
    if not request.HasField("goals"):
        raise InvalidFieldError(
            "goals", "none", f"shape ({environments}, {goal_dim}): {played.method} has goals"
        )
    return decode(request.goals, field="goals", shape=(environments, goal_dim))


def _plan(
    request: actor_pb2.ActorServiceActRequest, played: MethodPolicy, environments: int
) -> Plan | None:
    if not request.HasField("plan_token"):
        return None
    return from_token(
        request.plan_token,
        method=played.method,
        model_versions=played.models.versions,
        environments=environments,
        latent_dim=played.policy.decoder.dimensions.latent,
        execute_steps=played.policy.execution.steps,
    )
