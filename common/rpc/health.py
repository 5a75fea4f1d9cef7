"""`grpc.health.v1` on the event loop.

Not by the library's servicers: the asynchronous one holds a lock while it writes, so one watcher
that does not read stops it for all, and the other one takes a thread for each watcher.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.rpc.errors import CallError

_STATUS = health_pb2.HealthCheckResponse


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc,unused-ignore]
    """The health of every service of a server, and of the server ("")."""

    def __init__(self) -> None:
        self._statuses = {"": _STATUS.SERVING}
        self._changed = asyncio.Event()
        self._stopping = False

    async def Check(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: Any,  # noqa: ARG002
    ) -> health_pb2.HealthCheckResponse:
        """The health of one service now.

        Raises:
            CallError: There is no such service (NOT_FOUND).
        """
        if request.service not in self._statuses:
            known = ", ".join(name for name in self._statuses if name)
            message = f"service: got {request.service[:100]!r}, expected one of {known}, or none"
            raise CallError(message, grpc.StatusCode.NOT_FOUND)
        return _STATUS(status=self._statuses[request.service])

    async def Watch(  # noqa: N802
        self,
        request: health_pb2.HealthCheckRequest,
        context: Any,  # noqa: ARG002
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The health of one service now, and whenever it changes; a slow reader gets the latest."""
        told = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, _STATUS.SERVICE_UNKNOWN)
            if status != told:
                yield _STATUS(status=status)
                told = status
            await changed.wait()

    async def List(  # noqa: N802
        self,
        request: health_pb2.HealthListRequest,  # noqa: ARG002
        context: Any,  # noqa: ARG002
    ) -> health_pb2.HealthListResponse:
        """The health of every service now."""
        statuses = {name: _STATUS(status=status) for name, status in self._statuses.items()}
        return health_pb2.HealthListResponse(statuses=statuses)

    async def set(self, statuses: dict[str, bool]) -> None:
        """Sets the health of services by name; on the event loop."""
        if not self._stopping:
            for name, healthy in statuses.items():
                self._statuses[name] = _STATUS.SERVING if healthy else _STATUS.NOT_SERVING
            self._changed.set()
            self._changed = asyncio.Event()

    async def stop(self) -> None:
        """Everything is NOT_SERVING from now on; on the event loop."""
        await self.set(dict.fromkeys(self._statuses, False))
        self._stopping = True
