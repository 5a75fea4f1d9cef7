"""A served policy as an `ldcq.policy.Policy`: the client of `ActorService`. Needs no torch."""

from __future__ import annotations

from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import NDArray

from common.rpc import deadlines, tracing
from common.rpc.channel import connect as connect_channel
from common.rpc.channel import label
from common.rpc.codec import decode, encode
from common.rpc.errors import CallError, InvalidFieldError
from common.rpc.retry import status_of
from common.rpc.security import Security
from ldcq.policy import masked, observed, pursued
from ldcq.v1 import actor_pb2, actor_pb2_grpc, tensor_pb2


class RemotePolicy:
    """A policy that an actor serves; it remembers the plan that the actor gave it.

    Attributes:
        methods: What the actor serves.
        state_dim: S of the observations.
        goal_dim: G of the goals that some methods ask for; 0: none does.
    """

    def __init__(
        self,
        target: str,
        *,
        method: str = "",
        seed: int = 0,
        timeout: float = 60.0,
        security: Security | None = None,
    ) -> None:
        """Connects, and asks the actor what it serves.

        Args:
            target: `host:port`, `dns:///name:port` or `unix:/path`.
            method: One of the actor's methods; empty: its first.
            seed: Fixes everything that is drawn.
            timeout: Seconds that one call may take.
            security: TLS and token; None: as the environment says (docs/security.md).

        Raises:
            TargetError: The target is no address.
            SecurityError: The files for TLS or the token cannot be used.
            CallError: Nobody answers, or the actor has no models yet.
            ValueError: The actor serves no such method.
        """
        self.target = label(target)
        self._method, self._seed, self._timeout = method, seed, timeout
        self._channel = connect_channel(target, security=security)
        self._stub = actor_pb2_grpc.ActorServiceStub(self._channel)
        self._token: bytes | None = None
        self._restart: NDArray[np.bool_] | None = None
        self._environments: int | None = None
        try:
            described = self._call(self._stub.Describe, actor_pb2.ActorServiceDescribeRequest())
            self.methods = tuple(described.methods)
            if method and method not in self.methods:
                raise ValueError(
                    f"method: got {method!r}, expected one of {', '.join(self.methods)}, which the "
                    f"actor at {self.target} serves"
                )
        except BaseException:
            self.close()
            raise
        self.state_dim, self.goal_dim = described.state_dim, described.goal_dim

    def act(self, observations: NDArray[Any], goals: NDArray[Any] | None = None) -> NDArray[Any]:
        """Actions of one step; see `Policy.act`.

        Raises:
            ValueError: Observations or goals are of another shape, or not finite.
            CallError: The actor refused the call or did not answer; its message says why. Where its
                models have changed meanwhile, `reset` begins a new plan.
        """
        states = observed(observations, self.state_dim, self._environments)
        request = actor_pb2.ActorServiceActRequest(
            method=self._method, states=encode(states), seed=self._seed
        )
        if goals is not None and self.goal_dim:
            request.goals.CopyFrom(encode(pursued(goals, len(states), self.goal_dim)))
        if self._token is not None:
            request.plan_token = self._token
        if self._restart is not None:
            request.restart.CopyFrom(encode(self._restart))
        reply = self._call(self._stub.Act, request)
        self._token, self._restart, self._environments = reply.plan_token, None, len(states)
        try:
            discrete = reply.actions.dtype == tensor_pb2.DTYPE_INT64
            shape, dtype = (len(states), None), np.int64 if discrete else np.float32
            return np.array(decode(reply.actions, field="actions", shape=shape, dtype=dtype))
        except InvalidFieldError as error:
            raise CallError(f"actor at {self.target}: its reply makes no sense: {error}") from error

    def reset(self, mask: NDArray[Any] | None = None) -> None:
        """Drops plans; see `Policy.reset`."""
        if mask is None:
            self._token = self._restart = self._environments = None
        elif self._environments is not None:
            chosen = masked(mask, self._environments)
            self._restart = chosen if self._restart is None else self._restart | chosen

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: Any, request: Any) -> Any:
        timeout = deadlines.at_most(self._timeout)
        try:
            return method(request, timeout=timeout, metadata=tracing.outgoing())
        except grpc.RpcError as error:
            code, details = status_of(error)
            hint = ""
            if "plan_token was made by the models" in details:
                hint = "; reset() begins a new plan"
            elif code is grpc.StatusCode.UNAVAILABLE:
                hint = "; start it with `ldcq serve actor`, or correct the address"
            message = f"actor at {self.target}: {code.name}: {details}{hint}"
            raise CallError(message, code) from error
