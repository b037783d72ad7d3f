"""Connections of the agent that capture must let pass by mark, where the agent has no uid of its own.

A gRPC client cannot set a mark on its sockets. It dials a private Unix socket instead, and this relay dials the target.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from mizzen.agent.settings import CAPTURE_MARK


@asynccontextmanager
async def relay(target: str, path: str) -> AsyncIterator[None]:
    """While the context lasts, connections to the Unix socket at `path` lead to `HOST:PORT`, marked. Raises OSError."""
    host, _, port = target.rpartition(":")

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await _dial_marked(host, int(port))
        except OSError:
            # The client sees its connection close and reports it with its own words.
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    Path(path).unlink(missing_ok=True)
    server = await asyncio.start_unix_server(join, path)
    try:
        yield
    finally:
        server.close()


async def _dial_marked(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
    dialled = socket.socket(family, kind, protocol)
    try:
        dialled.setblocking(False)
        dialled.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, CAPTURE_MARK)
        await loop.sock_connect(dialled, address)
    except BaseException:
        dialled.close()
        raise
    return await asyncio.open_connection(sock=dialled)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()
