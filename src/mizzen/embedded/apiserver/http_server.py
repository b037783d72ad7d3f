"""The HTTP shell: aiohttp around `Core.handle`, TLS with optional client certificates, one write per answer."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import ssl
from collections.abc import Awaitable, Callable
from socket import socket

from aiohttp import web

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.authn import Authenticator
from mizzen.embedded.apiserver.bodies import MAX_BYTES
from mizzen.embedded.apiserver.core import Core
from mizzen.embedded.apiserver.pki import Pki
from mizzen.embedded.apiserver.wire import Request, Response, Stream, Upgrade, encode, parse_query
from mizzen.kube.api import ApiError

log = logging.getLogger(__name__)
COMPRESSED_BYTES = 128 * 1024
"""Longer answers are compressed for clients that take it, as Kubernetes does; shorter ones are faster plain."""

Connect = Callable[[web.BaseRequest, Upgrade], Awaitable[web.StreamResponse]]
"""Speaks WebSocket or SPDY with the client, and with the node for it."""


def tls_context(pki: Pki) -> ssl.SSLContext:
    """Our certificate, and client certificates where the client has one."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(pki.ca))
    context.load_cert_chain(pki.certificate("serving"), pki.key("serving"))
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


class HttpServer:
    """Start it on as many sockets as wanted; `close` ends streams too."""

    def __init__(self, core: Core, authenticator: Authenticator, connect: Connect) -> None:
        self._core, self._authenticator, self._connect = core, authenticator, connect
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=2.0)
        self._streams: set[asyncio.Task[object]] = set()

    async def start(self, sockets: list[socket], context: ssl.SSLContext | None) -> None:
        await self._runner.setup()
        for each in sockets:
            await web.SockSite(self._runner, each, ssl_context=context, backlog=1024).start()

    async def close(self) -> None:
        """Watches first: a client that watches would never go by itself."""
        for task in list(self._streams):
            task.cancel()
        await self._runner.cleanup()

    async def _serve(self, incoming: web.BaseRequest) -> web.StreamResponse:
        try:
            request = await self._read(incoming)
            answer = await self._core.handle(request)
            if isinstance(answer, Upgrade):
                return await self._connect(incoming, answer)
        except ApiError as error:
            answer = Response(encode(errors.status_of(error)), error.code)
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
        return web.Response(body=body, status=answer.status, headers=headers)

    async def _read(self, incoming: web.BaseRequest) -> Request:
        transport = incoming.transport
        peer = transport.get_extra_info("peercert") if transport else None
        if (incoming.content_length or 0) > MAX_BYTES:
            raise _too_large()
        body = b""
        if incoming.can_read_body:
            body = await incoming.content.read(MAX_BYTES + 1)
            while len(body) <= MAX_BYTES and (more := await incoming.content.read(MAX_BYTES + 1 - len(body))):
                body += more
        if len(body) > MAX_BYTES:
            raise _too_large()
        return Request(
            incoming.method,
            incoming.path.rstrip("/") or "/",
            parse_query(incoming.rel_url.raw_query_string),
            _headers(incoming),
            body,
            self._authenticator.user(peer, incoming.headers.get("Authorization", "")),
        )

    async def _stream(self, incoming: web.BaseRequest, stream: Stream) -> web.StreamResponse:
        response = web.StreamResponse(status=stream.status, headers={"Content-Type": stream.content_type})
        response.enable_chunked_encoding()
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            await response.prepare(incoming)
            async with contextlib.aclosing(stream.chunks) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    await response.write(chunk)
            await response.write_eof()
        except ConnectionError:
            log.debug("%s: the client went away", incoming.path)
        finally:
            self._streams.discard(task)
        return response


def _headers(incoming: web.BaseRequest) -> dict[str, str]:
    """By lower-case name. A header that comes more than once (Impersonate-Group) has one value per line."""
    found: dict[str, str] = {}
    for name, value in incoming.headers.items():
        key = name.lower()
        found[key] = f"{found[key]}\n{value}" if key in found and key.startswith("impersonate-") else value
    return found


def _too_large() -> ApiError:
    message = f"Request entity too large: limit is {MAX_BYTES}"
    return errors.failure(413, "RequestEntityTooLarge", message)
