"""A client of `PriorService` that survives replicas coming and going."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Any

import grpc

from common.rpc import deadlines, tracing
from common.rpc.channel import connect, label
from common.rpc.errors import (
    CallError,
    CallInterruptedError,
    ModelVersionError,
    PriorUnavailableError,
)
from common.rpc.prior import PriorityName, description, sample_request, samples
from common.rpc.retry import Absence, Backoff, is_transient, status_of
from common.rpc.security import mistrust
from ldcq.config import SamplingConfig
from ldcq.latent_prior import Description, Draw, Samples
from ldcq.learning.learner import Stopped
from ldcq.v1 import prior_pb2, prior_pb2_grpc

_LOG = logging.getLogger(__name__)
_DESCRIBE_TIMEOUT = 5.0
_START_HINT = "start it with `ldcq serve prior`, or correct the address"


class PriorClient:
    """A `LatentPrior` behind gRPC: calls a prior service, over all its replicas. Thread-safe.

    A call that fails because a replica is down, restarting or has its queue full is repeated, with
    growing pauses, for up to `patience` seconds; a request's seed fixes its latents, so a repeated
    call gives what the lost one would have. Once nobody has answered for that long, calls fail with
    their first attempt, until one is answered. Within a server's handler no call goes on for longer
    than that handler's own caller waits.
    """

    def __init__(
        self,
        target: str | Sequence[str],
        timeout: float = 60.0,
        *,
        patience: float = 60.0,
        version_patience: float = 5.0,
        max_in_flight: int = 32,
        waiting: threading.Semaphore | None = None,
        priority: PriorityName = "learner",
    ) -> None:
        """Opens the channel; nothing is sent yet.

        Args:
            target: See `common.rpc.channel.connect`.
            timeout: Deadline of one attempt in seconds.
            patience: Seconds a call goes on after its first failure before it raises
                PriorUnavailableError.
            version_patience: Seconds replicas have to follow each other to the expected model
                version.
            max_in_flight: Calls of `sample_async` under way at once; further ones wait here.
            waiting: Places for calls that wait for a prior that does not answer; a call without one
                fails at once. None: every call may wait.
            priority: "actor" goes before "learner" where rows wait.

        Raises:
            TargetError: The target is not an address.
        """
        self.target = label(target)
        self._timeout, self._patience = timeout, patience
        self._version_patience = version_patience
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._calls: set[Any] = set()
        self._description: Description | None = None
        self._absence = Absence(patience, waiting)
        self._priority = priority
        self._channel = connect(target)
        self._stub = prior_pb2_grpc.PriorServiceStub(self._channel)
        self._executor = futures.ThreadPoolExecutor(max_in_flight, thread_name_prefix="prior")

    def describe(self) -> Description:
        """Asks what the prior is; patient like `sample`.

        Raises:
            PriorUnavailableError: No replica answered within the patience.
            CallError: The call failed in another way, or the answer makes no sense.
        """
        return self._describe(None)

    def sample(self, draw: Draw) -> Samples:
        """Draws latents, of whichever model version answers; see `LatentPrior.sample`.

        Raises:
            PriorUnavailableError: No replica answered within the patience.
            CallInterruptedError: The client was closed meanwhile.
            CallError: The server refused the draw; `code` and the message say why.
        """
        return self._sample(draw, None)

    def sample_async(self, draw: Draw) -> futures.Future[Samples]:
        """Like `sample`, but returns at once; the future raises what `sample` would."""
        return self._submit(draw, None)

    def pinned(self, version: str) -> PinnedPrior:
        """The same prior, of which the latents of one model version alone will do.

        Args:
            version: The model version, as `describe` has it.
        """
        return PinnedPrior(self, version)

    def _describe(self, version: str | None) -> Description:
        request = prior_pb2.PriorServiceDescribeRequest()
        backoff = Backoff(deadlines.at_most(self._version_patience), self._closed)
        while True:
            found = description(self._patiently(self._stub.Describe, request, self._timeout, None))
            if version in (None, found.model_version):
                return found
            if not backoff.pause():
                raise ModelVersionError(
                    f"prior at {self.target}: it does not serve version {version} (it serves "
                    f"{found.model_version}); serve that version, or train again what depends on it"
                )

    def _submit(self, draw: Draw, version: str | None) -> futures.Future[Samples]:
        # With the trace and the deadline of the call that this one is made for.
        return self._executor.submit(copy_context().run, self._sample, draw, version)

    def _sample(self, draw: Draw, version: str | None) -> Samples:
        backoff = Backoff(deadlines.at_most(self._version_patience), self._closed)
        while True:
            known = self._described(draw.options, version)
            options = draw.options if known is None else known.taken(draw.options)
            request = sample_request(
                replace(draw, options=options), priority=self._priority, expected_version=version
            )
            try:
                reply = self._patiently(self._stub.Sample, request, self._timeout, version)
            except CallError:
                self._description = None  # whoever refuses may be another prior than was described
                raise
            expected = version if known is None else known.model_version
            if expected in (None, reply.model_version):
                return samples(reply, request)
            self._description = None  # it was swapped meanwhile: the options were for another
            if version is not None or not backoff.pause():
                raise ModelVersionError(
                    f"prior at {self.target}: answered with version {reply.model_version}, "
                    f"expected {expected}"
                )

    def wait_ready(
        self,
        on_wait: Callable[[str], None],
        stop: threading.Event,
        *,
        expected_version: str | None = None,
        poll: float = 0.5,
    ) -> Description:
        """Waits until the service answers, and with `expected_version` if given.

        Args:
            on_wait: Told once for each reason what is waited for.
            stop: Ends the waiting.
            expected_version: The model version to wait for; None: any.
            poll: Seconds between attempts.

        Raises:
            Stopped: `stop` was set.
            CallError: The service answers, but is no usable prior.
        """
        told = ""
        while not stop.is_set():
            message = f"waiting for the prior at {self.target}; {_START_HINT}"
            try:
                request = prior_pb2.PriorServiceDescribeRequest()
                reply = self._call(self._stub.Describe, request, _DESCRIBE_TIMEOUT)
                prior = description(reply)
                if expected_version in (None, prior.model_version):
                    return prior
                message = (
                    f"waiting for the prior at {self.target} to serve version {expected_version}; "
                    f"it serves {prior.model_version}"
                )
            except grpc.RpcError as error:
                code, details = status_of(error)
                if code is not grpc.StatusCode.DEADLINE_EXCEEDED and not is_transient(error):
                    raise self._failure(error) from error
                if problem := mistrust(details):
                    message = f"waiting for the prior at {self.target}: {problem}"
            if message != told:
                on_wait(message)
                told = message
            stop.wait(poll)
        raise Stopped(f"stopped while waiting for the prior at {self.target}")

    def close(self) -> None:
        """Cancels what is under way and closes the channel."""
        self._closed.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)
        self._channel.close()

    def __enter__(self) -> PriorClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _described(self, options: SamplingConfig, version: str | None) -> Description | None:
        """The prior that options are for: that of `version`, or else the one served; None where no
        option is given, which any prior takes.
        """
        if not options.model_dump(exclude_none=True):
            return None
        known = self._description  # other threads may forget or renew it
        if known is None or version not in (None, known.model_version):
            known = self._description = self._describe(version)
        return known

    def _patiently(
        self, method: Any, request: Any, timeout: float, expected_version: str | None
    ) -> Any:
        patience = deadlines.at_most(self._patience)
        backoff = Backoff(patience, self._closed)
        version_backoff = Backoff(deadlines.at_most(self._version_patience), self._closed)
        reason: grpc.RpcError | None = None
        with self._absence.waiting() as may_wait:
            while True:
                try:
                    reply = self._call(method, request, timeout)
                    self._absence.end()
                    return reply
                except grpc.RpcError as error:
                    if self._closed.is_set():
                        raise CallInterruptedError(f"client of {self.target} closed") from error
                    # Where the time ran out over another attempt, what counts is why it was needed.
                    if reason is None or deadlines.at_most(timeout) > 0:
                        reason = error
                    if is_transient(reason):
                        if not may_wait():
                            raise self._failure(reason, None, self._absence.seconds) from error
                        again = backoff.pause()
                    elif expected_version is not None and _is_version_mismatch(reason):
                        again = version_backoff.pause()
                    else:
                        again = False
                    if not again or deadlines.at_most(timeout) == 0:
                        raise self._failure(reason, expected_version, patience) from error
                    _LOG.debug("prior at %s: %s, trying again", self.target, status_of(reason)[1])

    def _call(self, method: Any, request: Any, timeout: float) -> Any:
        """One attempt, cancelled when the client is closed."""
        if self._closed.is_set():
            raise CallInterruptedError(f"client of {self.target} is closed")
        timeout = deadlines.at_most(timeout)
        call = method.future(request, timeout=timeout, metadata=tracing.outgoing())
        with self._lock:
            self._calls.add(call)
        try:
            return call.result()
        except grpc.FutureCancelledError as error:
            raise CallInterruptedError(f"client of {self.target} closed") from error
        finally:
            with self._lock:
                self._calls.discard(call)

    def _failure(
        self, error: grpc.RpcError, expected_version: str | None = None, patience: float = 0.0
    ) -> CallError:
        code, details = status_of(error)
        where = f"prior at {self.target}"
        if is_transient(error):
            return PriorUnavailableError(
                f"{where}: no answer for {patience:.3g} s ({code.name}: {details}); {_START_HINT}"
            )
        if expected_version is not None and _is_version_mismatch(error):
            return ModelVersionError(
                f"{where}: it does not serve version {expected_version} ({details}); "
                "serve that version, or train again what depends on it"
            )
        return CallError(f"{where}: {code.name}: {details}", code)


@dataclass(frozen=True)
class PinnedPrior:
    """A `LatentPrior` behind a client that answers with one model version or not at all.

    Attributes:
        client: Calls the service.
        version: The model version.
    """

    client: PriorClient
    version: str

    def describe(self) -> Description:
        """What this version is: another one may have other dimensions, or goals.

        Raises:
            ModelVersionError: The service holds another version.
        """
        return self.client._describe(self.version)

    def sample(self, draw: Draw) -> Samples:
        """See `PriorClient.sample`.

        Raises:
            ModelVersionError: The service holds another version.
        """
        return self.client._sample(draw, self.version)

    def sample_async(self, draw: Draw) -> futures.Future[Samples]:
        """Like `sample`, but returns at once; the future raises what `sample` would."""
        return self.client._submit(draw, self.version)


def _is_version_mismatch(error: grpc.RpcError) -> bool:
    code, details = status_of(error)
    return code is grpc.StatusCode.FAILED_PRECONDITION and "version" in details.lower()
