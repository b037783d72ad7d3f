"""exec and attach for every client: WebSocket (kubectl since 1.31, Python, browsers), SPDY/3.1 (kubectl before it)."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Coroutine
from typing import Any

from aiohttp import ClientWebSocketResponse, WSMsgType, web

from mizzen.embedded.apiserver.streams import channels
from mizzen.embedded.apiserver.streams.duplex import TakenOver, take_over
from mizzen.embedded.apiserver.streams.negotiation import is_websocket, spdy_headers
from mizzen.embedded.apiserver.streams.node import OpenNodeStream, Parameters
from mizzen.embedded.apiserver.streams.session import SpdySession, SpdyStream
from mizzen.embedded.apiserver.wire import parse_flag

SPDY_PROTOCOLS = (channels.V4,)
STREAM_TIMEOUT = 30.0
"""Seconds in which a SPDY client must have opened all its streams."""


async def serve_exec(request: web.BaseRequest, open_node_stream: OpenNodeStream, path: str) -> web.StreamResponse:
    """Relay an exec or attach request to the node's `path`. Raises ApiError before the upgrade, nothing after it."""
    if is_websocket(request):
        return await _over_websocket(request, open_node_stream, path)
    headers = spdy_headers(request, SPDY_PROTOCOLS)
    node = await open_node_stream(path, node_parameters(request))
    async with contextlib.aclosing(_Closing(node)):
        duplex = take_over(request, headers)
        session = SpdySession(duplex)
        await _until_first(session.run(), _relay_spdy(session, node, _expected(request)))
        await session.close()
    return TakenOver(status=101)


class _Closing:
    """Lets aclosing close what has `close` instead of `aclose`."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket

    async def aclose(self) -> None:
        await self._socket.close()


def node_parameters(request: web.BaseRequest) -> Parameters:
    """The command and which streams are wanted. Raises 400 for what is no boolean."""
    commands = [("command", value) for value in request.rel_url.query.getall("command", [])]
    return commands + [(name, "true") for name in ("stdin", "stdout", "stderr", "tty") if _flag(request, name)]


def _flag(request: web.BaseRequest, name: str) -> bool:
    return parse_flag(name, request.rel_url.query.get(name, ""))


def _expected(request: web.BaseRequest) -> set[str]:
    """Which SPDY streams the client will open: a terminal has no stderr of its own, but a size."""
    wanted = {name for name in ("stdin", "stdout", "stderr") if _flag(request, name)}
    if _flag(request, "tty"):
        wanted = (wanted - {"stderr"}) | {"resize"}
    return wanted | {"error"}


# --- WebSocket clients ---


async def _over_websocket(request: web.BaseRequest, open_node_stream: OpenNodeStream, path: str) -> web.StreamResponse:
    client = channels.ChannelSocket(channels.EXEC)
    client.negotiate(request)
    node = await open_node_stream(path, node_parameters(request))
    async with contextlib.aclosing(_Closing(node)):
        await client.open(request)
        await _until_first(_client_to_node(client, node), _node_to_client(node, client))
        await client.close()
    return client.response


async def _client_to_node(client: channels.ChannelSocket, node: ClientWebSocketResponse) -> None:
    async for message in client.messages():
        await node.send_bytes(message)


async def _node_to_client(node: ClientWebSocketResponse, client: channels.ChannelSocket) -> None:
    async for message in node:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = channels.parse(message.data)
        if channel == channels.ERROR and not client.ends_with_status:
            data = _in_words(data)
        if data and (channel != channels.CLOSE or client.closes_channels):
            await client.send(channels.message(channel, data))


def _in_words(status: bytes) -> bytes:
    """What a client of the first protocol hears of a Status: nothing of success."""
    told = json.loads(status)
    return b"" if told["status"] == "Success" else str(told["message"]).encode()


# --- SPDY clients ---


async def _relay_spdy(session: SpdySession, node: ClientWebSocketResponse, expected: set[str]) -> None:
    async with asyncio.timeout(STREAM_TIMEOUT):
        streams = await _all_streams(session, expected)
    tasks = [asyncio.create_task(_send_input(node, name, streams[name])) for name in ("stdin",) if name in streams]
    tasks += [asyncio.create_task(_send_sizes(node, streams[name])) for name in ("resize",) if name in streams]
    try:
        await _send_output(node, streams)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _all_streams(session: SpdySession, expected: set[str]) -> dict[str, SpdyStream]:
    streams: dict[str, SpdyStream] = {}
    while expected - streams.keys():
        stream = await session.opened.get()
        if stream is None:
            raise ConnectionResetError("the client went before it had opened its streams")
        streams[stream.headers.get("streamtype", "")] = stream
    return streams


async def _send_input(node: ClientWebSocketResponse, name: str, stream: SpdyStream) -> None:
    channel = channels.BY_STREAM_TYPE[name]
    async for data in stream.chunks():
        await node.send_bytes(channels.message(channel, data))
    await node.send_bytes(channels.close(channel))


async def _send_sizes(node: ClientWebSocketResponse, stream: SpdyStream) -> None:
    """The client writes JSON documents in lines; a message to the node is one document."""
    pending = b""
    async for data in stream.chunks():
        *lines, pending = (pending + data).split(b"\n")
        for line in filter(None, lines):
            await node.send_bytes(channels.message(channels.RESIZE, line))


async def _send_output(node: ClientWebSocketResponse, streams: dict[str, SpdyStream]) -> None:
    names = {number: name for name, number in channels.BY_STREAM_TYPE.items()}
    async for message in node:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = channels.parse(message.data)
        stream = streams.get(names.get(channel, ""))
        if stream is not None:
            await stream.send(data)
    for name in ("stdout", "stderr", "error"):
        if name in streams:
            await streams[name].end()
    await _client_is_done(streams)


async def _client_is_done(streams: dict[str, SpdyStream]) -> None:
    """The client closes when it has read all; closing before it could cut off the last bytes."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            async for _ in streams["error"].chunks():
                pass


async def _until_first(*jobs: Coroutine[Any, Any, None]) -> None:
    """Run these together until one ends; the others are cancelled. A peer that goes away is no error."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, ConnectionError | TimeoutError):
            raise result
