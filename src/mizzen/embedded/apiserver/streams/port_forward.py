"""Port-forward for every kind of client.

SPDY, plain (kubectl before 1.31) or in WebSocket messages (since 1.31): per connection an error and a data stream, told
apart by `requestid`. The older WebSocket framing (Python's `kubernetes`): per port of `?ports=` a data and an error
channel.
https://kubernetes.io/docs/tasks/access-application-cluster/port-forward-access-application-cluster/
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from mizzen.embedded.apiserver.errors import bad_request
from mizzen.embedded.apiserver.streams import channels
from mizzen.embedded.apiserver.streams.duplex import Duplex, TakenOver, WebSocketDuplex, take_over
from mizzen.embedded.apiserver.streams.negotiation import is_websocket, offered, spdy_headers
from mizzen.embedded.apiserver.streams.node import OpenNodeStream
from mizzen.embedded.apiserver.streams.session import SpdySession, SpdyStream
from mizzen.kube.api import ApiError

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
WAITING_MESSAGES = 16
"""For each port; more of them wait in the client's socket."""
LINGER = 5.0
"""Seconds without data after which a connection ends whose client sends no more: the node cannot half-close it."""


async def serve_portforward(
    request: web.BaseRequest, open_node_stream: OpenNodeStream, path: str
) -> web.StreamResponse:
    """Relay to the node's `path`, one node stream per connection. Raises ApiError before the upgrade, not after it."""
    if not is_websocket(request):
        duplex = take_over(request, spdy_headers(request, (PROTOCOL,)))
        await _serve_spdy(duplex, open_node_stream, path)
        return TakenOver(status=101)
    protocols = offered(request)
    if TUNNEL in protocols:
        socket = web.WebSocketResponse(protocols=(TUNNEL,), max_msg_size=0, compress=False)
        await socket.prepare(request)
        await _serve_spdy(WebSocketDuplex(socket), open_node_stream, path)
        return socket
    return await _serve_channels(request, open_node_stream, path)


# --- SPDY ---


async def _serve_spdy(duplex: Duplex, open_node_stream: OpenNodeStream, path: str) -> None:
    session = SpdySession(duplex)
    reading = asyncio.create_task(session.run())
    pairs: dict[str, dict[str, SpdyStream]] = {}
    connections: set[asyncio.Task[None]] = set()
    try:
        while stream := await session.opened.get():
            request_id = stream.headers.get("requestid", "")
            pair = pairs.setdefault(request_id, {})
            pair[stream.headers.get("streamtype", "")] = stream
            if {"data", "error"} <= pair.keys():
                del pairs[request_id]
                task = asyncio.create_task(_forward_pair(session, pair["data"], pair["error"], open_node_stream, path))
                connections.add(task)
                task.add_done_callback(connections.discard)
    finally:
        for task in (reading, *connections):
            task.cancel()
        await asyncio.gather(reading, *connections, return_exceptions=True)
        await session.close()


async def _forward_pair(
    session: SpdySession, data: SpdyStream, error: SpdyStream, open_node_stream: OpenNodeStream, path: str
) -> None:
    port = data.headers.get("port", "")
    with contextlib.suppress(ConnectionError):
        problem = await _forward(open_node_stream, path, port, data.chunks(), data.send)
        await error.end(problem.encode())
        await data.end()
    session.forget(data, error)


async def _forward(
    open_node_stream: OpenNodeStream,
    path: str,
    port: str,
    incoming: AsyncIterator[bytes],
    send: Callable[[bytes], Awaitable[None]],
) -> str:
    """Join one client connection with one of the Pod. What went wrong, or ""."""
    try:
        node = await open_node_stream(path, [("port", port)])
    except ApiError as refusal:
        return f"error forwarding port {port}: {refusal.message}"
    upload = asyncio.create_task(_upload(node, incoming))
    try:
        return await _download(node, send, upload)
    finally:
        upload.cancel()
        await asyncio.gather(upload, return_exceptions=True)
        await node.close()


async def _upload(node: ClientWebSocketResponse, incoming: AsyncIterator[bytes]) -> None:
    async for data in incoming:
        await node.send_bytes(data)
    await node.send_bytes(b"")  # tells a node that can half-close that the client sends no more


async def _download(
    node: ClientWebSocketResponse, send: Callable[[bytes], Awaitable[None]], upload: asyncio.Task[None]
) -> str:
    while True:
        message = await _receive(node, upload)
        if message is None:
            return ""
        if isinstance(message, str):
            return message
        await send(message)


async def _receive(node: ClientWebSocketResponse, upload: asyncio.Task[None]) -> bytes | str | None:
    """Bytes, an error text, or None at the end: the Pod closed, or nobody has anything more to say."""
    receiving = asyncio.create_task(node.receive())
    either: set[asyncio.Task[Any]] = {receiving, upload}
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not receiving.done():
            await asyncio.wait({receiving}, timeout=LINGER)
        if not receiving.done():
            return None
        message = receiving.result()
    finally:
        receiving.cancel()
    if message.type is WSMsgType.BINARY:
        data: bytes = message.data
        return data
    return str(message.data) if message.type is WSMsgType.TEXT else None


# --- the older WebSocket framing ---


def _ports(request: web.BaseRequest) -> list[int]:
    """`?ports=80,443` or `?ports=80&ports=443`. Raises 400."""
    texts = [text for value in request.rel_url.query.getall("ports", []) for text in value.split(",") if text]
    if not texts:
        raise bad_request("query parameter `ports` is required")
    for text in texts:
        if not text.isdigit() or not 0 < int(text) < 65536:
            raise bad_request(f'unable to parse "{text}" as a port')
    return [int(text) for text in texts]


async def _serve_channels(
    request: web.BaseRequest, open_node_stream: OpenNodeStream, path: str
) -> web.WebSocketResponse:
    ports = _ports(request)
    socket = channels.ChannelSocket(channels.PORT_FORWARD)
    socket.negotiate(request)
    await socket.open(request)
    inboxes: list[asyncio.Queue[bytes]] = [asyncio.Queue(WAITING_MESSAGES) for _ in ports]
    forwards = [
        asyncio.create_task(_forward_channel(socket, number, port, inboxes[number], open_node_stream, path))
        for number, port in enumerate(ports)
    ]
    reading = asyncio.create_task(_read_channels(socket, inboxes, forwards))
    try:
        everything: set[asyncio.Future[Any]] = {reading, asyncio.gather(*forwards)}
        await asyncio.wait(everything, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (reading, *forwards):
            task.cancel()
        await asyncio.gather(reading, *forwards, return_exceptions=True)
        await socket.close()
    return socket.response


async def _forward_channel(
    socket: channels.ChannelSocket,
    number: int,
    port: int,
    inbox: asyncio.Queue[bytes],
    open_node_stream: OpenNodeStream,
    path: str,
) -> None:
    """Channel 2n carries the data of the n-th port, 2n+1 its error; each begins with the port, little-endian."""
    for channel in (2 * number, 2 * number + 1):
        await socket.send(channels.message(channel, port.to_bytes(2, "little")))

    async def send(data: bytes) -> None:
        await socket.send(channels.message(2 * number, data))

    problem = await _forward(open_node_stream, path, str(port), _drain(inbox), send)
    if problem:
        await socket.send(channels.message(2 * number + 1, problem.encode()))


async def _drain(inbox: asyncio.Queue[bytes]) -> AsyncIterator[bytes]:
    while data := await inbox.get():
        yield data


async def _read_channels(
    socket: channels.ChannelSocket, inboxes: list[asyncio.Queue[bytes]], forwards: list[asyncio.Task[None]]
) -> None:
    """A client is read no faster than the Pod reads; what comes for a connection that has ended is dropped."""
    async for message in socket.messages():
        channel, data = channels.parse(message)
        if channel % 2 == 0 and channel // 2 < len(inboxes) and data:
            await _put(inboxes[channel // 2], data, forwards[channel // 2])


async def _put(inbox: asyncio.Queue[bytes], data: bytes, reader: asyncio.Task[None]) -> None:
    """Wait for room, as long as there is somebody who makes it."""
    if not inbox.full():
        inbox.put_nowait(data)
        return
    putting = asyncio.create_task(inbox.put(data))
    try:
        await asyncio.wait({putting, reader}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        putting.cancel()
