"""Listening: one process on one port, until it is told to stop."""

import signal
import socket
from math import ceil

import uvicorn

from cxr_core.errors import ArgumentError
from cxr_core.logs import ours_to_stderr
from cxr_core.service.app import create_app
from cxr_core.service.desk import Desk
from cxr_core.service.settings import Settings
from cxr_core.service.watch import LOG


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT came; then take nothing more in and finish what was taken.

    Raises:
        ArgumentError: When the address cannot be listened on.
        ModelError: When a model or the gate cannot be loaded.
    """
    with _listening(settings) as listener:
        ours_to_stderr()
        host, port = listener.getsockname()[:2]
        LOG.info("listening on %s port %d; the models load", host, port)
        desk = Desk(settings, failed=lambda: setattr(server, "should_exit", True))
        server = uvicorn.Server(_config(create_app(desk), settings))
        # uvicorn raises SIGTERM again once it has stopped, as if nobody had heeded it.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        server.run([listener])
    LOG.info("stopped")
    if desk.failure is not None:
        raise desk.failure


def _config(app: object, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        # An address that a client writes itself would be an allowance for the asking.
        proxy_headers=False,
        server_header=False,
        # An upload that has begun, and its answer.
        timeout_graceful_shutdown=ceil(2 * settings.patience),
    )


def _listening(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        address = (settings.host, settings.port)
        listener = socket.create_server(address, family=family, backlog=1024)
    except OSError as error:
        raise ArgumentError(
            f"Nobody can listen on {settings.host} port {settings.port} ({error.strerror}); choose "
            "another with --host and --port."
        ) from error
    # Connections inherit it. An answer leaves in two writes, and the second would wait until the
    # client confirms the first, which it puts off by 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
