"""Traces for OpenTelemetry: one from an actor's `Act` through the queue and compute of `Sample`.

Off unless `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector; then the extra `tracing` is needed. Its
other usual variables (OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER, ...) count as well.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_BEGINNINGS = ("/Act", "/Sample")
"""Methods that begin a trace where the caller has none; health and progress are not worth one."""

_tracer: Any = None


class TracingError(RuntimeError):
    """Traces are asked for, and cannot be made."""


def configure_tracing() -> None:
    """Sends this process's traces to the collector that the environment names, if it does.

    Raises:
        TracingError: The extra `tracing` is not installed.
    """
    if not os.environ.get(ENDPOINT):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise TracingError(
            f"{ENDPOINT} is set, but OpenTelemetry is not installed: install the extra `tracing`, "
            "or unset the variable"
        ) from error
    provider = TracerProvider(resource=Resource.create())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace_with(provider)


def trace_with(provider: Any) -> None:
    """Makes spans with an OpenTelemetry provider from now on; None: no more."""
    global _tracer
    _tracer = None if provider is None else provider.get_tracer("ldcq")


@contextmanager
def handling(method: str, metadata: Sequence[Any]) -> Iterator[None]:
    """The span of a server's handler, a child of the caller's, if the call is to be traced.
    `method` is its full name, `metadata` came with the call.
    """
    if _tracer is None:
        yield
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    carrier = {str(key): str(value) for key, value in metadata}
    if "traceparent" not in carrier and not method.endswith(_BEGINNINGS):
        yield
        return
    name = method.removeprefix("/")
    with _tracer.start_as_current_span(name, extract(carrier), SpanKind.SERVER):
        yield


def outgoing() -> tuple[tuple[str, str], ...]:
    """The metadata that makes a call part of the current trace; empty where there is none."""
    if _tracer is None:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple(carrier.items())


def elapsed(*parts: tuple[str, float]) -> None:
    """Spans that have just ended, one after the other: their names and their seconds."""
    if _tracer is None:
        return
    start = time.time_ns() - int(1e9 * sum(seconds for _, seconds in parts))
    for name, seconds in parts:
        span = _tracer.start_span(name, start_time=start)
        start += int(1e9 * seconds)
        span.end(start)
