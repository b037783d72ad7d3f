"""`python -m mizzen.embedded.apiserver`: the API server and the controllers, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from mizzen.embedded.apiserver.application import Application, open_application
from mizzen.embedded.apiserver.connections import Connections
from mizzen.embedded.apiserver.http_server import HttpServer, tls_context
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.store import StoreTooNew

log = logging.getLogger("mizzen.apiserver")
CLUSTER_PORT = 443


def main() -> None:
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serve(options))
    except StoreTooNew as refusal:
        sys.exit(str(refusal))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mizzen.embedded.apiserver", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="the cluster's state folder")
    parser.add_argument("--fd", type=int, action="append", default=[], help="an inherited listening socket")
    parser.add_argument("--cluster-ip", help="also listen on port 443 of this address")
    parser.add_argument("--port", type=int, help="also listen on this port of 127.0.0.1; 0 chooses one")
    parser.add_argument("--port-file", type=Path, help="where to write the chosen port")
    parser.add_argument("--address", action="append", default=[], help="one more name for the certificate")
    parser.add_argument("--no-controllers", action="store_true", help="serve the API only")
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    addresses = [*options.address, *([options.cluster_ip] if options.cluster_ip else [])]
    pki = ensure_pki(options.state / "pki", addresses)
    application = await open_application(options.state, pki)
    server = HttpServer(application.core, application.authenticator, Connections(application.relay.socket).connect)
    try:
        async with _controllers(application, enabled=not options.no_controllers):
            await server.start(_sockets(options), tls_context(pki))
            log.info("serving; revision %d", application.store.revision)
            await stop.wait()
    finally:
        await server.close()
        await application.close()


def _sockets(options: argparse.Namespace) -> list[socket.socket]:
    sockets = [socket.socket(fileno=each) for each in options.fd]
    if options.cluster_ip:
        sockets.append(_listen(options.cluster_ip, CLUSTER_PORT))
    if options.port is not None:
        sockets.append(_listen("127.0.0.1", options.port))
        if options.port_file:
            temporary = options.port_file.with_suffix(".new")
            temporary.write_text(str(sockets[-1].getsockname()[1]))
            temporary.replace(options.port_file)
    return sockets


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    return listener


@contextlib.asynccontextmanager
async def _controllers(application: Application, enabled: bool) -> AsyncIterator[None]:
    if not enabled or importlib.util.find_spec("mizzen.embedded.controllers") is None:
        yield
        return
    from mizzen.embedded import controllers

    run = getattr(controllers, "run", None)
    if run is None:
        yield
        return
    task = asyncio.create_task(run(application.api))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    main()
