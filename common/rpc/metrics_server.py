"""The Prometheus endpoint: waitress, where idle connections take no thread and end soon."""

from __future__ import annotations

import socket
import threading
from typing import Any

import waitress
from prometheus_client import make_wsgi_app
from waitress import wasyncore
from waitress.parser import HTTPRequestParser

_LIMITS = {
    "threads": 2,
    "connection_limit": 512,
    # Seconds of silence that end a connection, and how often that is looked for.
    "channel_timeout": 5,
    "cleanup_interval": 1,
    "max_request_header_size": 8192,
    "max_request_body_size": 1024,
}

# waitress logs the path of a request whose client has left. What it could not parse has none, and a
# stranger's half a line would be a traceback in the log.
HTTPRequestParser.path = ""


class MetricsServer:
    """Serves the metrics of this process from now on; `port` 0 takes a free one.

    Raises:
        OSError: The address cannot be bound.
    """

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.create_server((host, port), family=family)
        self.port: int = bound.getsockname()[1]
        self._connections: dict[int, Any] = {}
        self._server = waitress.create_server(
            make_wsgi_app(),
            map=self._connections,
            sockets=[bound],
            asyncore_use_poll=True,  # select knows no file descriptor above 1,023
            **_LIMITS,
        )
        self._thread = threading.Thread(target=self._server.run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Closes all connections."""
        self._server.task_dispatcher.shutdown()
        self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._connections))
        self._thread.join()
