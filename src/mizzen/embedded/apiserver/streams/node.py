"""What these protocols are relayed to: WebSockets of the node, as docs/decisions/0001 describes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from aiohttp import ClientWebSocketResponse

Parameters: TypeAlias = Sequence[tuple[str, str]]
OpenNodeStream: TypeAlias = Callable[[str, Parameters], Awaitable[ClientWebSocketResponse]]
"""`await open(path, parameters)` connects, for exec and attach with subprotocol v5.channel.k8s.io; raises ApiError
where the node refuses. Whoever opens a stream closes it."""
