"""Channel and server options: kept in one place because both ends must agree on them."""

from __future__ import annotations

import json

MAX_MESSAGE_BYTES = 128 * 1024 * 1024
"""128 states x 500 candidates x 16 dimensions already exceed gRPC's default of 4 MiB. The most rows
of a call, 262,144, fit with 127 dimensions. A server needs three times a message to read it."""

CONNECTION_AGE_SECONDS = 30.0
"""A client looks for new replicas only when a connection ends, so servers end them now and then."""

CONNECTION_GRACE_SECONDS = 3600.0
"""How long calls on an aged connection may go on; above the deadline of the longest call."""

CONNECTION_CALLS = 256
"""Calls open at once on a connection; a client keeps further ones on its side."""

_PENDING_CALLS = 1 << 16
_KEEPALIVE_SECONDS = 20.0
_KEEPALIVE_TIMEOUT_SECONDS = 10.0

Options = list[tuple[str, int | str]]


def server_options() -> Options:
    """Options of every server."""
    return [
        # Off, so that a port in use is an error and not a silent sharing of its connections.
        ("grpc.so_reuseport", 0),
        *_both_ends(),
        ("grpc.max_connection_age_ms", _milliseconds(CONNECTION_AGE_SECONDS)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(CONNECTION_GRACE_SECONDS)),
        ("grpc.max_concurrent_streams", CONNECTION_CALLS),
        # Or calls of clients that keep to it are refused as UNAVAILABLE, while others are ending.
        ("grpc.http.overload_protection", 0),
        # Calls that the event loop has not seen: gRPC would end some without a word, and the server
        # refuses them by a bound of its own.
        ("grpc.server.max_pending_requests", _PENDING_CALLS),
        ("grpc.server.max_pending_requests_hard_limit", _PENDING_CALLS),
        # Half of what clients do, or their pings are answered with GOAWAY too_many_pings.
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(_KEEPALIVE_SECONDS / 2)),
    ]


def channel_options(health_service: str | None = "") -> Options:
    """Options of every channel.

    Args:
        health_service: Replicas whose health of this service is not SERVING get no calls; "" is the
            whole server, None asks nothing.
    """
    return [
        ("grpc.service_config", service_config(health_service)),
        ("grpc.enable_retries", 1),
        *_both_ends(),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.dns_min_time_between_resolutions_ms", 5000),
        ("grpc.initial_reconnect_backoff_ms", 200),
        # Short: it is how long a replica that has just been started waits for its first call.
        ("grpc.max_reconnect_backoff_ms", 1000),
        # Services of one installation speak directly; a proxy is for the outside world.
        ("grpc.enable_http_proxy", 0),
    ]


def service_config(health_service: str | None = "") -> str:
    """The service config of gRPC as JSON: round robin, health checks, retries of UNAVAILABLE only.

    No timeout here: gRPC core fires `methodConfig.timeout` early, so deadlines are given per call.
    """
    retry = {
        "maxAttempts": 5,
        "initialBackoff": "0.1s",
        "maxBackoff": "2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    config: dict[str, object] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [{"name": [{}], "retryPolicy": retry}],
    }
    if health_service is not None:
        config["healthCheckConfig"] = {"serviceName": health_service}
    return json.dumps(config)


def _both_ends() -> Options:
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _milliseconds(_KEEPALIVE_SECONDS)),
        ("grpc.keepalive_timeout_ms", _milliseconds(_KEEPALIVE_TIMEOUT_SECONDS)),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
