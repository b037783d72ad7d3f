"""The agent's own port, 15020: readiness, merged metrics, the app's probes, and the words that end or drain the proxy.

A small HTTP/1.1 server on asyncio streams: one request per connection is all that kubelets and scrapers need, and every
sidecar is spared an HTTP framework.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from typing import TypeAlias

from mizzen.agent.outgoing import call
from mizzen.agent.probes import probe
from mizzen.agent.settings import ADMIN_PORT, STATUS_PORT, Settings

log = logging.getLogger(__name__)

_HEAD_TIMEOUT = 10.0
_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Question:
    method: str
    path: str
    from_this_pod: bool


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str = _TEXT


Action: TypeAlias = Callable[[], Awaitable[None]]


class Status:
    """What port 15020 answers. `on_drain` and `on_quit` are the two things it can do to the proxy."""

    def __init__(self, settings: Settings, on_drain: Action, on_quit: Action) -> None:
        self._settings = settings
        self._actions = {"/drain": on_drain, "/quitquitquit": on_quit}

    async def answer(self, question: Question) -> Answer:
        path = question.path.partition("?")[0]
        if path in self._actions:
            return await self._act(self._actions[path], question)
        if path in ("/healthz/ready", "/ready"):
            return await _readiness()
        if path in ("/stats/prometheus", "/metrics"):
            return Answer(body=await self._metrics(), content_type=_METRICS)
        if specification := self._settings.app_probes.get(path):
            return Answer(*await probe(specification, self._settings.address))
        return Answer(404, b"not found\n")

    async def _act(self, action: Action, question: Question) -> Answer:
        if question.method != "POST":
            return Answer(405, b"use POST\n")
        if not question.from_this_pod:
            return Answer(403, b"only from inside the Pod\n")
        await action()
        return Answer(body=b"ok\n")

    async def _metrics(self) -> bytes:
        """Envoy's metrics, then the app's. What one of them fails to give does not hide the other."""
        parts = await asyncio.gather(_scrape(ADMIN_PORT, "/stats/prometheus"), self._app_metrics())
        return b"".join(part if part.endswith(b"\n") or not part else part + b"\n" for part in parts)

    async def _app_metrics(self) -> bytes:
        asked = self._settings.app_metrics
        if asked.get("scrape") != "true":
            return b""
        path = "/" + asked.get("path", "/metrics").lstrip("/")
        return await _scrape(int(asked.get("port", "80")), path)


async def _readiness() -> Answer:
    try:
        ready = await call("GET", ADMIN_PORT, "/ready")
    except OSError as error:
        return Answer(503, f"Envoy does not answer: {error}\n".encode())
    if ready.status == HTTPStatus.OK:
        return Answer()
    return Answer(503, b"Envoy is not ready: " + ready.body)


async def _scrape(port: int, path: str) -> bytes:
    try:
        reply = await call("GET", port, path)
    except OSError as error:
        log.warning("no metrics from port %d: %s", port, error)
        return b""
    return reply.body if reply.status == HTTPStatus.OK else b""


async def serve_status(status: Status, port: int = STATUS_PORT, *, ipv6: bool = False) -> asyncio.Server:
    """Listens on every address of the Pod. Raises OSError."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            question = await asyncio.wait_for(_read_question(reader, writer), _HEAD_TIMEOUT)
            writer.write(_written(await status.answer(question)))
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, OSError) as error:
            log.debug("a request on port %d was not served: %r", port, error)
        finally:
            writer.close()

    return await asyncio.start_server(serve_one, ["0.0.0.0", *(["::"] if ipv6 else [])], port)


async def _read_question(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Question:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    method, path, _ = head.split("\r\n", 1)[0].split(" ", 2)
    peer, own = writer.get_extra_info("peername")[0], writer.get_extra_info("sockname")[0]
    return Question(method, path, from_this_pod=peer == own or ip_address(peer).is_loopback)


def _written(answer: Answer) -> bytes:
    phrase = HTTPStatus(answer.status).phrase if answer.status in HTTPStatus._value2member_map_ else "Unknown"
    head = (
        f"HTTP/1.1 {answer.status} {phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        "Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + answer.body
