"""Calls that are not one document: logs and port-forward.

Port-forward uses the WebSocket framing `v4.channel.k8s.io`, which kubelets and our own API server both speak: every
binary message begins with a channel byte, 0 for data and 1 for errors, and the first message on each channel is the
port, two bytes, little-endian (kubernetes: pkg/kubelet/cri/streaming/portforward/websocket.go).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mizzen.kube.api import WELL_KNOWN, ApiError
from mizzen.kube.authorities import unread
from mizzen.kube.http import CONNECT_TIMEOUT, HttpApi

with unread():
    import aiohttp

PORT_FORWARD_PROTOCOL = "v4.channel.k8s.io"
DATA, ERROR = 0, 1
PORT_BYTES = 2


async def logs(
    api: HttpApi,
    namespace: str,
    pod: str,
    *,
    container: str | None = None,
    follow: bool = False,
    previous: bool = False,
    timestamps: bool = False,
    tail_lines: int | None = None,
    since_seconds: int | None = None,
    limit_bytes: int | None = None,
) -> AsyncIterator[bytes]:
    """The log as it comes, in pieces that need not be lines; with `follow` until the container ends."""
    asked = {
        "container": container,
        "follow": "true" if follow else None,
        "previous": "true" if previous else None,
        "timestamps": "true" if timestamps else None,
        "tailLines": tail_lines,
        "sinceSeconds": since_seconds,
        "limitBytes": limit_bytes,
    }
    query = {key: str(value) for key, value in asked.items() if value is not None}
    endless = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
    path = WELL_KNOWN.pods.path(namespace, pod, "log")
    async with api.stream("GET", path, query, timeout=endless if follow else None) as response:
        async for piece in response.content.iter_any():
            yield piece


class ByteStream:
    """One TCP connection into a Pod. There is no half-close: `close` ends both directions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._headers_due = {DATA, ERROR}

    async def read(self) -> bytes:
        """The next bytes, b"" at the end. Raises ApiError when the Pod's side reports one (nothing listens there)."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            payload = self._payload(message.data)
            if payload and message.data[0] == ERROR:
                raise ApiError(502, "PortForward", payload.decode(errors="replace"))
            if payload:
                return payload
        return b""

    def _payload(self, message: bytes) -> bytes:
        channel = message[0]
        if channel in self._headers_due:
            self._headers_due.remove(channel)
            return message[1 + PORT_BYTES :]
        return message[1:]

    async def write(self, data: bytes) -> None:
        await self._socket.send_bytes(bytes((DATA,)) + data)

    async def close(self) -> None:
        await self._socket.close()


@asynccontextmanager
async def port_forward(api: HttpApi, namespace: str, pod: str, port: int) -> AsyncIterator[ByteStream]:
    """A new connection to `port` on the Pod's loopback. Raises ApiError when the Pod is not there or not running."""
    path = WELL_KNOWN.pods.path(namespace, pod, "portforward")
    async with api.websocket(path, {"ports": str(port)}, (PORT_FORWARD_PROTOCOL,)) as socket:
        yield ByteStream(socket)
