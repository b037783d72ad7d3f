"""`python -m mizzen.embedded.apiserver`: the API server and the controllers, until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from mizzen.embedded.apiserver.application import Application, open_application
from mizzen.embedded.apiserver.connections import Connections
from mizzen.embedded.apiserver.http_server import HttpServer, tls_context
from mizzen.embedded.apiserver.pki import ensure_pki
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.embedded.apiserver.store_disk import StoreTooNew
from mizzen.embedded.paths import ClusterPaths

log = logging.getLogger("mizzen.apiserver")
CLUSTER_PORT = 443
_ALLOCATIONS_PER_COLLECTION = 20_000


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
    parser.add_argument("--ipv6", action="store_true", help="Services may have IPv6 addresses, too")
    parser.add_argument("--no-controllers", dest="controllers", action="store_false", help="serve the API only")
    return parser.parse_args()


async def serve(options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    box_addresses = _box_addresses(options.state)
    pki = ensure_pki(options.state / "pki", _names(options, box_addresses))
    families = ("IPv4", "IPv6") if options.ipv6 else ("IPv4",)
    application = await open_application(options.state, pki, families=families)
    connections = Connections(application.relay.socket)
    server = HttpServer(application.core, application.authenticator, connections.connect)
    claims = ClusterPaths(options.state).claims
    running = _controllers(application, pki, box_addresses, claims) if options.controllers else contextlib.nullcontext()
    try:
        async with running:
            sockets = _sockets(options)
            await server.start(sockets, tls_context(pki))
            if options.port_file:
                _tell_port(options.port_file, sockets[-1].getsockname()[1])
            _spare_the_collector()
            log.info("serving; revision %d", application.store.revision)
            await stop.wait()
            await server.close()
    finally:
        await connections.close()
        await application.close()


def _spare_the_collector() -> None:
    """What there is stays; looking through all of it for garbage again and again would take a part of each write."""
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS_PER_COLLECTION, 20, 20)


def _names(options: argparse.Namespace, box_addresses: Sequence[str]) -> list[str]:
    """Under which names the certificate is good, besides those of every cluster."""
    return [each for each in (*options.address, options.cluster_ip, *box_addresses) if each]


def _box_addresses(state: Path) -> list[str]:
    """What the host wrote into box.json before it let us start; none where there is no box."""
    try:
        box = msgspec.json.decode((state / "box.json").read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        return []
    return [box[name] for name in ("address", "second_address") if box.get(name)]


def _sockets(options: argparse.Namespace) -> list[socket.socket]:
    sockets = [socket.socket(fileno=each) for each in options.fd]
    if options.cluster_ip:
        sockets.append(_listen(options.cluster_ip, CLUSTER_PORT))
    if options.port is not None:
        sockets.append(_listen("127.0.0.1", options.port))
    return sockets


def _tell_port(path: Path, port: int) -> None:
    """Whole or not at all: whoever waits for the file may connect at once."""
    temporary = path.with_suffix(".new")
    temporary.write_text(str(port))
    temporary.replace(path)


def _listen(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    return listener


@contextlib.asynccontextmanager
async def _controllers(
    application: Application, pki: Pki, box_addresses: Sequence[str], claims: Path
) -> AsyncIterator[None]:
    """The controllers run beside the server and stop before it."""
    from mizzen.embedded.controllers import Controllers

    controllers = Controllers(
        application.api,
        root_ca=pki.ca.read_text(),
        load_balancer_addresses=box_addresses,
        volume_folder=str(claims),
    )
    application.core.after_create = controllers.after_create
    task = asyncio.create_task(controllers.run())
    task.add_done_callback(_report_end)
    try:
        await asyncio.wait([asyncio.ensure_future(controllers.wait_ready()), task], return_when="FIRST_COMPLETED")
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        log.error("the controllers ended; this process ends so that init starts it again", exc_info=error)
        signal.raise_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
