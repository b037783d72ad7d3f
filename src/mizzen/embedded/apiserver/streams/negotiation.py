"""Which protocol a client asks for: WebSocket subprotocols, or SPDY by `Upgrade` and `X-Stream-Protocol-Version`."""

from __future__ import annotations

from aiohttp import web

from mizzen.embedded.apiserver.errors import bad_request, failure

STREAM_VERSION = "X-Stream-Protocol-Version"


def is_websocket(request: web.BaseRequest) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


def offered(request: web.BaseRequest) -> list[str]:
    """Subprotocols in the client's order."""
    header = request.headers.getall("Sec-WebSocket-Protocol", [])
    return [name.strip() for line in header for name in line.split(",") if name.strip()]


def spdy_headers(request: web.BaseRequest, supported: tuple[str, ...]) -> dict[str, str]:
    """The headers of a 101 answer to a SPDY upgrade. Raises 400 if it is none, 403 if no version suits."""
    if "upgrade" not in request.headers.get("Connection", "").lower() or "spdy/3.1" not in (
        request.headers.get("Upgrade", "").lower()
    ):
        raise bad_request("unable to upgrade: missing upgrade headers in request")
    asked = [name.strip() for line in request.headers.getall(STREAM_VERSION, []) for name in line.split(",")]
    chosen = next((name for name in asked if name in supported), None)
    if chosen is None:
        told = f"unable to negotiate protocol: client supports {asked}, server accepts {list(supported)}"
        raise failure(403, "Forbidden", f"unable to upgrade: {told}")
    return {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", STREAM_VERSION: chosen}
