"""The HTTP shell: aiohttp around `Core.handle`, TLS with optional client certificates, one write per answer."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import ssl
from collections.abc import Awaitable, Callable
from socket import socket
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from mizzen.embedded.apiserver import authn, errors
from mizzen.embedded.apiserver.authn import Authenticator
from mizzen.embedded.apiserver.bodies import MAX_BYTES
from mizzen.embedded.apiserver.core import Core
from mizzen.embedded.apiserver.pki_files import Pki
from mizzen.embedded.apiserver.wire import Answer, Request, Response, Stream, Upgrade, encode, parse_query
from mizzen.kube.api import ApiError

log = logging.getLogger(__name__)
logging.getLogger("aiohttp.server").addFilter(lambda record: _is_ours(record))
COMPRESSED_BYTES = 128 * 1024
"""Longer answers are compressed for clients that take it, as Kubernetes does; shorter ones are faster plain."""

REQUESTS_AT_ONCE = 600
"""As of a real API server (400 that read, 200 that write). More are told to come again."""
WATCHES_AT_ONCE = 10_000
BODY_SECONDS = 30.0
"""In which a client must have sent its request."""
PART_BYTES = 1024 * 1024
"""Of an answer, at once."""
SHORT_BYTES = 16 * 1024
"""Less than what a connection takes before it makes its writer wait."""
STALLED_SECONDS = 60.0
"""After which a client that does not read its stream is cut off; it begins again from where it was."""

SHUTDOWN_SECONDS = 2.0
"""For requests that are under way when the server ends."""

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Connect = Callable[[web.BaseRequest, Upgrade], Awaitable[web.StreamResponse]]
"""Speaks WebSocket or SPDY with the client, and with the node for it."""


def tls_context(pki: Pki) -> ssl.SSLContext:
    """Our certificate, and client certificates where the client has one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca))
    context.load_cert_chain(pki.certificate("serving"), pki.key("serving"))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class _Server(web.Server):
    """Tells when a connection is gone: aiohttp lets a handler that only writes seldom find that out by itself."""

    def __init__(self, handler: Handler, gone: Callable[[object], None]) -> None:
        super().__init__(handler, access_log=None)
        self._gone = gone

    def connection_lost(self, handler: Any, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._gone(handler)


class HttpServer:
    """Start it on as many sockets as wanted; `close` ends streams too."""

    def __init__(self, core: Core, authenticator: Authenticator, connect: Connect) -> None:
        self._core, self._authenticator, self._connect = core, authenticator, connect
        self._runner = web.ServerRunner(_Server(self._serve, self._gone), shutdown_timeout=SHUTDOWN_SECONDS)
        self._streams: dict[object, asyncio.Task[object]] = {}
        """By their connections."""
        self._busy = 0

    async def start(self, sockets: list[socket], context: ssl.SSLContext | None) -> None:
        await self._runner.setup()
        for each in sockets:
            await web.SockSite(self._runner, each, ssl_context=context, backlog=1024).start()

    async def close(self) -> None:
        """Watches first: a client that watches would never go by itself."""
        for connection in list(self._streams):
            self._gone(connection)
        await self._runner.cleanup()

    def _gone(self, connection: object) -> None:
        if task := self._streams.pop(connection, None):
            task.cancel()

    async def _serve(self, incoming: web.BaseRequest) -> web.StreamResponse:
        try:
            answer = await self._answer(incoming)
            if isinstance(answer, Upgrade):
                return await self._connect(incoming, answer)
        except ApiError as error:
            headers = {"Retry-After": "1"} if error.code == 429 else {}
            answer = Response(encode(errors.status_of(error)), error.code, headers=headers)
        except Exception:
            log.exception("%s %s failed", incoming.method, incoming.path)
            refusal = errors.internal("the request met a fault of the server; its log says more")
            answer = Response(encode(refusal.status), refusal.code)
        if isinstance(answer, Stream):
            return await self._stream(incoming, answer)
        assert isinstance(answer, Response)
        body = b"" if incoming.method == "HEAD" else answer.body
        headers = {"Content-Type": answer.content_type, "Cache-Control": "no-cache, private", **answer.headers}
        if len(body) > COMPRESSED_BYTES and "gzip" in incoming.headers.get("Accept-Encoding", ""):
            # In a thread: other requests must not wait for it.
            body = await asyncio.to_thread(gzip.compress, body, 1)
            headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding, Accept"}
        if len(body) > PART_BYTES:
            return await _in_parts(incoming, answer.status, headers, body)
        return web.Response(body=body, status=answer.status, headers=headers)

    async def _answer(self, incoming: web.BaseRequest) -> Answer:
        """Raises 429 when there is too much to do already."""
        if self._busy >= REQUESTS_AT_ONCE or len(self._streams) >= WATCHES_AT_ONCE:
            raise errors.failure(429, "TooManyRequests", "too many requests, please try again later")
        self._busy += 1
        try:
            return await self._core.handle(await self._read(incoming))
        finally:
            self._busy -= 1

    async def _read(self, incoming: web.BaseRequest) -> Request:
        """Raises 401 before any of the body is read."""
        transport = incoming.transport
        peer = transport.get_extra_info("peercert") if transport else None
        path = _text(incoming.path.rstrip("/") or "/")
        user = self._authenticator.user(peer, _text(incoming.headers.get("Authorization", "")))
        authn.check_open(user, path)
        if (incoming.content_length or 0) > MAX_BYTES:
            raise _too_large()
        body = await _body(incoming) if incoming.can_read_body else b""
        query = parse_query(incoming.rel_url.raw_query_string)
        return Request(incoming.method, path, query, _headers(incoming), body, user)

    async def _stream(self, incoming: web.BaseRequest, stream: Stream) -> web.StreamResponse:
        response = web.StreamResponse(status=stream.status, headers={"Content-Type": stream.content_type})
        response.enable_chunked_encoding()
        task = asyncio.current_task()
        assert task is not None
        self._streams[incoming.protocol] = task
        try:
            await response.prepare(incoming)
            async with contextlib.aclosing(stream.chunks) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    await _write(incoming, response, chunk)
            await response.write_eof()
        except TimeoutError:
            _cut_off(incoming)
        except ConnectionError:
            log.debug("%s: the client went away", incoming.path)
        finally:
            self._streams.pop(incoming.protocol, None)
        return response


async def _in_parts(incoming: web.BaseRequest, status: int, headers: dict[str, str], body: bytes) -> web.StreamResponse:
    """A long answer goes as fast as its client reads: TLS would hold another copy of all that waits."""
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(body)
    whole = memoryview(body)
    try:
        await response.prepare(incoming)
        for start in range(0, len(body), PART_BYTES):
            await _write(incoming, response, whole[start : start + PART_BYTES])
        await response.write_eof()
    except TimeoutError:
        _cut_off(incoming)
    except ConnectionError:
        log.debug("%s: the client went away", incoming.path)
    return response


def _cut_off(incoming: web.BaseRequest) -> None:
    log.info("%s: cut off, as the client does not read", incoming.path)
    if incoming.transport:
        incoming.transport.abort()


async def _write(incoming: web.BaseRequest, response: web.StreamResponse, chunk: bytes | memoryview) -> None:
    """Raises TimeoutError when the client has not read for a minute."""
    transport = incoming.transport
    if len(chunk) < SHORT_BYTES and transport is not None and transport.get_write_buffer_size() == 0:
        await response.write(chunk)  # which does not wait: a timer for each watcher of each change is a lot
        return
    async with asyncio.timeout(STALLED_SECONDS):
        await response.write(chunk)


async def _body(incoming: web.BaseRequest) -> bytes:
    """Raises 408 and 413."""
    if incoming.content.is_eof():  # it came with the head, as most do
        return _of_size(incoming.content.read_nowait())
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while size <= MAX_BYTES and (part := await incoming.content.readany()):
                parts.append(part)
                size += len(part)
    except TimeoutError:
        raise errors.failure(408, "Timeout", f"the request did not arrive within {BODY_SECONDS:.0f} seconds") from None
    return _of_size(b"".join(parts))


def _of_size(body: bytes) -> bytes:
    if len(body) > MAX_BYTES:
        raise _too_large()
    return body


def _headers(incoming: web.BaseRequest) -> dict[str, str]:
    """By lower-case name. A header that comes more than once (Impersonate-Group) has one value per line."""
    found: dict[str, str] = {}
    for name, value in incoming.headers.items():
        key, value = name.lower(), _text(value)
        found[key] = f"{found[key]}\n{value}" if key in found and key.startswith("impersonate-") else value
    return found


def _text(received: str) -> str:
    """Bytes that are no UTF-8 arrive as surrogates, which could not be written into an answer."""
    return received if received.isascii() else received.encode(errors="surrogateescape").decode(errors="replace")


def _is_ours(record: logging.LogRecord) -> bool:
    """What is no HTTP is the client's fault: it was answered 400, and is not a fault of the server to be logged."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _too_large() -> ApiError:
    message = f"Request entity too large: limit is {MAX_BYTES}"
    return errors.failure(413, "RequestEntityTooLarge", message)
