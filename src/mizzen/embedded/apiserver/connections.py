"""exec, attach and port-forward: hands a client's connection to the stream protocols."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.wire import Upgrade, encode


class Connections:
    def __init__(self, node_socket: Path) -> None:
        self._node = node_socket

    async def connect(self, incoming: web.BaseRequest, upgrade: Upgrade) -> web.StreamResponse:
        refusal = errors.failure(501, "NotImplemented", f"{upgrade.verb} is not served")
        return web.Response(body=encode(refusal.status), status=501, content_type="application/json")
