"""The channel protocols of exec, attach and port-forward over WebSocket: a message's first byte names its channel.

v5 adds the message (255, channel), by which a side closes one channel. Whoever offers no subprotocol speaks the first
one, `channel.k8s.io`, in which exec and attach end with an error's words alone and not with a Status. A text message is
as good as a binary one, but in base64, where it is the channel's digit and then its bytes in base64.
https://github.com/kubernetes/kubernetes/blob/release-1.32/staging/src/k8s.io/apimachinery/pkg/util/httpstream/wsstream/doc.go
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import WSMessage, WSMsgType, web

from mizzen.embedded.apiserver.errors import bad_request
from mizzen.embedded.apiserver.streams.negotiation import offered

V5: Final = "v5.channel.k8s.io"
V4: Final = "v4.channel.k8s.io"
V1: Final = "channel.k8s.io"
V4_BASE64: Final = "v4.base64.channel.k8s.io"
V1_BASE64: Final = "base64.channel.k8s.io"
EXEC: Final = (V5, V4, V1, V4_BASE64, V1_BASE64)
PORT_FORWARD: Final = (V4, V4_BASE64)

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
RESIZE: Final = 4
CLOSE: Final = 255

BY_STREAM_TYPE: Final = {"stdin": STDIN, "stdout": STDOUT, "stderr": STDERR, "error": ERROR, "resize": RESIZE}
"""The `streamtype` header of a SPDY stream says the same as a channel's number."""


def message(channel: int, data: bytes) -> bytes:
    return bytes((channel,)) + data


def close(channel: int) -> bytes:
    return bytes((CLOSE, channel))


def parse(data: bytes) -> tuple[int, bytes]:
    """The channel and its bytes. An empty message belongs to no channel and raises ValueError."""
    if not data:
        raise ValueError("a message without a channel byte")
    return data[0], data[1:]


class ChannelSocket:
    """A client's WebSocket, in whichever of the protocols: `send` and `messages` know only channel byte and data."""

    def __init__(self, protocols: tuple[str, ...]) -> None:
        self._protocols = protocols
        self._socket = web.WebSocketResponse(protocols=protocols, max_msg_size=0, compress=False)

    def negotiate(self, request: web.BaseRequest) -> None:
        """Before anything is opened for the client. Raises 400 when it offers protocols, and none of ours."""
        possible = self._socket.can_prepare(request)
        asked = offered(request)
        if not possible.ok or (asked and possible.protocol is None):
            raise bad_request(f"the WebSocket must speak one of {', '.join(self._protocols)}, not {', '.join(asked)}")

    async def open(self, request: web.BaseRequest) -> None:
        await self._socket.prepare(request)

    @property
    def response(self) -> web.WebSocketResponse:
        """What the handler returns."""
        return self._socket

    @property
    def closes_channels(self) -> bool:
        return self._socket.ws_protocol == V5

    @property
    def ends_with_status(self) -> bool:
        return self._socket.ws_protocol in (V5, V4, V4_BASE64)

    async def send(self, message: bytes) -> None:
        if self._base64:
            await self._socket.send_str(f"{message[0]}{base64.b64encode(message[1:]).decode()}")
        else:
            await self._socket.send_bytes(message)

    async def messages(self) -> AsyncIterator[bytes]:
        """What carries a channel byte. Ends when the client closes, or says what is not of its protocol."""
        async for message in self._socket:
            try:
                data = self._data(message)
            except (ValueError, binascii.Error):
                return
            if data:
                yield data

    async def close(self) -> None:
        await self._socket.close()

    @property
    def _base64(self) -> bool:
        return self._socket.ws_protocol in (V4_BASE64, V1_BASE64)

    def _data(self, message: WSMessage) -> bytes:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            return b""
        data: bytes = message.data.encode() if message.type is WSMsgType.TEXT else message.data
        if self._base64 and data:
            return bytes((int(data[:1]),)) + base64.b64decode(data[1:], validate=True)
        return data
