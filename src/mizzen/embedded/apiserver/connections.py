"""exec, attach and port-forward: a client's connection meets the stream protocols, and those meet the node."""

from __future__ import annotations

from pathlib import Path

import aiohttp
from aiohttp import web

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.streams.node import Parameters
from mizzen.embedded.apiserver.wire import Upgrade

PROTOCOL = "v5.channel.k8s.io"


class Connections:
    """Opens one WebSocket to `run/node.sock` for each container connection."""

    def __init__(self, node_socket: Path) -> None:
        self._socket = node_socket
        self._session: aiohttp.ClientSession | None = None

    async def connect(self, incoming: web.BaseRequest, upgrade: Upgrade) -> web.StreamResponse:
        """Until the connection ends. Raises ApiError before the upgrade."""
        # Imported at the first use: most lives of a server see no exec.
        from mizzen.embedded.apiserver import streams

        place = f"/{upgrade.verb}/{upgrade.namespace}/{upgrade.pod}"
        if upgrade.verb == "portforward":
            return await streams.serve_portforward(incoming, self._open, place)
        return await streams.serve_exec(incoming, self._open, f"{place}/{upgrade.container}")

    async def _open(self, path: str, parameters: Parameters) -> aiohttp.ClientWebSocketResponse:
        protocols = () if path.startswith("/portforward/") else (PROTOCOL,)
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket), limit=0))
        url = f"http://node{path}"
        try:
            return await self._session.ws_connect(
                url, params=list(parameters), protocols=protocols, max_msg_size=0, autoping=True
            )
        except aiohttp.WSServerHandshakeError as error:
            why = error.headers["Refusal"] if error.headers and "Refusal" in error.headers else error.message
            raise errors.failure(error.status, "InternalError", why) from None
        except (aiohttp.ClientError, OSError) as error:
            raise errors.unavailable(f"the node does not answer: {error}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
