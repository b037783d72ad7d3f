"""`proxy sidecar` and `proxy router`: Envoy, and what it needs beside it, from start to drain."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from mizzen.agent import envoy
from mizzen.agent.certificates import keep_certificate
from mizzen.agent.sds import Secrets, serve_secrets
from mizzen.agent.settings import Settings
from mizzen.agent.status import Status, serve_status

log = logging.getLogger(__name__)


async def run_proxy(settings: Settings, waiting: envoy.WaitingEnvoy) -> int:
    """Runs until Envoy ends or someone asks to stop. Returns the exit code: Envoy's own, or 0 after an orderly stop.

    The secret socket is open before Envoy starts: that is the difference between 36 ms and a back-off of seconds.
    """
    stop = asyncio.Event()
    _stop_on_signals(stop)
    async with _secrets(settings) as keep:
        answers = Status(settings, on_drain=envoy.drain, on_quit=_setting(stop))
        status = await serve_status(answers, ipv6=bool(settings.ipv6_addresses))
        waiting.start()
        ended = asyncio.ensure_future(envoy.exit_code(waiting.pid))
        certificate = asyncio.create_task(keep())
        try:
            return await _until_the_end(settings, waiting.pid, ended, stop, certificate)
        finally:
            certificate.cancel()
            status.close()


@asynccontextmanager
async def _secrets(settings: Settings) -> AsyncIterator[Callable[[], Coroutine[None, None, None]]]:
    """The secret socket, and what is to run for ever to keep it filled."""
    if settings.external_sds:
        log.info("%s is served by somebody else: certificates come from there", settings.paths.sds_socket)
        yield _for_ever
        return
    secrets = Secrets()
    server = await serve_secrets(secrets, settings.paths.sds_socket)
    try:
        yield lambda: keep_certificate(settings, secrets)
    finally:
        await server.stop(grace=0)


async def _for_ever() -> None:
    await asyncio.Event().wait()


async def _until_the_end(
    settings: Settings, pid: int, ended: asyncio.Future[int], stop: asyncio.Event, certificate: asyncio.Task[None]
) -> int:
    stopping = asyncio.create_task(stop.wait())
    awaited: tuple[asyncio.Future[Any], ...] = (ended, stopping, certificate)
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    if certificate.done():
        await envoy.terminate(pid, ended)
        certificate.result()
    if not stop.is_set():
        stopping.cancel()
        log.error("Envoy ended with %d", ended.result())
        return ended.result()
    await _leave(settings, pid, ended)
    return 0


async def _leave(settings: Settings, pid: int, ended: asyncio.Future[int]) -> None:
    cap = settings.duration("terminationDrainDuration", "5s")
    log.info("draining for at most %.0f s", cap.total_seconds())
    try:
        await envoy.drain()
        await envoy.wait_until_idle(cap)
    except OSError as error:
        log.warning("Envoy's admin does not answer, so it is ended without a drain: %s", error)
    await envoy.terminate(pid, ended)


def _stop_on_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def _setting(stop: asyncio.Event) -> Callable[[], Awaitable[None]]:
    async def quit_now() -> None:
        stop.set()

    return quit_now
