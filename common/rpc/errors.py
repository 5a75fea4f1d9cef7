"""Errors that cross a gRPC boundary, each with the status code it becomes there."""

from __future__ import annotations

import grpc

from ldcq.learning.learner import Stopped

IN_ONE_CALL = "in one call"
"""How the message of a call that is too large ends: it never passes, unlike that of a full queue,
which has the same code."""


class RpcError(Exception):
    """An error with a status code; a servicer raises one and the server's interceptor sends it.

    Attributes:
        code: The status code the caller gets.
        message: What went wrong and what was expected, for the caller to read.
    """

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidFieldError(RpcError):
    """A field of a request that cannot be used (INVALID_ARGUMENT).

    Attributes:
        field: The field's name in the proto message.
    """

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, given: object, expected: object) -> None:
        super().__init__(f"{field}: got {given}; expected {expected}")
        self.field = field


class TooLargeError(InvalidFieldError):
    """A field that asks for more than one call may (RESOURCE_EXHAUSTED); smaller calls will do."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED

    def __init__(self, field: str, given: object, most: int, unit: str = "rows") -> None:
        super().__init__(field, given, f"at most {most} {unit} {IN_ONE_CALL}")


class FailedPreconditionError(RpcError):
    """The request is well formed, but not for the model served (FAILED_PRECONDITION)."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class VersionMismatchError(FailedPreconditionError):
    """The request named another model version than the one served (FAILED_PRECONDITION)."""

    def __init__(self, served: str, expected: str) -> None:
        super().__init__(f"expected_model_version: got {expected}; the version served is {served}")


class NotReadyError(RpcError):
    """There is no model yet (UNAVAILABLE); callers try again."""

    code = grpc.StatusCode.UNAVAILABLE


class QueueFullError(RpcError):
    """Too much work is waiting (RESOURCE_EXHAUSTED); callers try again later or elsewhere."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class DeadlineError(RpcError):
    """The caller's deadline passed before any compute (DEADLINE_EXCEEDED)."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class CallError(RpcError):
    """What a client raises for a call that failed; `code` is the server's (or the channel's)."""

    def __init__(self, message: str, code: grpc.StatusCode = grpc.StatusCode.INTERNAL) -> None:
        super().__init__(message)
        self.code = code


class PriorUnavailableError(CallError):
    """No replica of the prior answered for as long as the client was told to be patient."""

    def __init__(self, message: str) -> None:
        super().__init__(message, grpc.StatusCode.UNAVAILABLE)


class ModelVersionError(CallError):
    """The service holds another model version than the caller's results depend on."""

    def __init__(self, message: str) -> None:
        super().__init__(message, grpc.StatusCode.FAILED_PRECONDITION)


class CallInterruptedError(CallError, Stopped):
    """The client was closed while a call was under way; for a stage a reason to end in order."""

    def __init__(self, message: str) -> None:
        super().__init__(message, grpc.StatusCode.CANCELLED)
