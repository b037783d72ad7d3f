"""echo: says who answered and what was asked, by HTTP and by gRPC; and fails on request, which shows retries.

`python -m mizzen.samples.echo [--port 8080] [--grpc 7070]`. Asked with `?fail=2` or the header `x-fail: 2`, the first
two requests of a kind are answered 503 (or what `fail-status` says); of a kind are those with the same `fail-key`, or
else the same `x-request-id`, which a retrying proxy keeps. `/count?key=KEY` tells how many came. With `fail-at=v2` only
the app of that version fails; `delay=1.5` makes every answer wait so many seconds.

The gRPC port answers every unary method, and says SERVING to health checks. Messages have one string field, number 1,
as those of Istio's `proto.EchoTestService/Echo`.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from collections import Counter
from typing import Any

from mizzen.samples.serving import Request, Response, as_json, pod_name, serve

PORT, GRPC_PORT = 8080, 7070
GRPC_WORKERS = 8
LONGEST_DELAY = 10.0
SERVING = b"\x08\x01"
"""`grpc.health.v1.HealthCheckResponse{status: SERVING}`."""

_arrived: Counter[str] = Counter()
_lock = threading.Lock()


def app(request: Request) -> Response:
    if request.path in ("/health", "/healthz", "/ready"):
        return as_json({"status": "ok"})
    if request.path == "/count":
        with _lock:
            return as_json({"count": _arrived[request.parameter("key")]})
    attempt = _attempt(request)
    answer = {
        **identity(),
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": {name.lower(): value for name, value in request.pairs},
        "body": request.body.decode(errors="replace"),
        "attempt": attempt,
    }
    time.sleep(min(float(_said(request, "delay") or 0), LONGEST_DELAY))
    fails = int(_said(request, "fail") or 0)
    if attempt <= fails and _said(request, "fail-at") in ("", answer["version"]):
        return as_json(answer, int(_said(request, "fail-status") or 503))
    return as_json(answer, indent=2)


def identity() -> dict[str, str]:
    return {"hostname": pod_name(), "version": os.environ.get("SERVICE_VERSION", os.environ.get("VERSION", "v1"))}


def _said(request: Request, name: str) -> str:
    return request.parameter(name) or request.headers.get(f"x-{name}", "")


def _attempt(request: Request) -> int:
    """The how-manieth request of its kind this is, from 1 on."""
    key = _said(request, "fail-key") or request.headers.get("x-request-id", "")
    with _lock:
        _arrived[key] += 1
        return _arrived[key]


def start_grpc(port: int) -> Any:
    """A started `grpc.Server`; it is imported here so that who needs HTTP alone does not pay for it."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    def answer(details: Any) -> Any:
        def unary(message: bytes, context: Any) -> bytes:
            if details.method == "/grpc.health.v1.Health/Check":
                return SERVING
            return _message(_grpc_answer(details.method, message, context))

        return grpc.unary_unary_rpc_method_handler(unary)

    class Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return answer(details)

    server = grpc.server(ThreadPoolExecutor(GRPC_WORKERS), handlers=(Everything(),))
    if not server.add_insecure_port(f"[::]:{port}") and not server.add_insecure_port(f"0.0.0.0:{port}"):
        raise OSError(f"cannot listen on port {port}")
    server.start()
    return server


def _grpc_answer(method: str, message: bytes, context: Any) -> str:
    metadata = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
    return json.dumps({**identity(), "method": method, "headers": metadata, "body": _field(message)})


def _message(content: str) -> bytes:
    """A protobuf message whose field 1 is the string."""
    data, length = content.encode(), bytearray()
    rest = len(data)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return b"\x0a" + bytes([*length, rest]) + data


def _field(message: bytes) -> str:
    """The string of field 1, where the message begins with it."""
    if not message.startswith(b"\x0a"):
        return ""
    length = shift = 0
    for position, byte in enumerate(message[1:], start=2):
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return message[position : position + length].decode(errors="replace")
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description="Says who answered and what was asked.")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", PORT)))
    parser.add_argument("--grpc", type=int, default=GRPC_PORT, help="0 serves HTTP alone")
    options = parser.parse_args()
    server = start_grpc(options.grpc) if options.grpc else None
    serve(app, options.port, "echo")
    if server is not None:
        server.stop(grace=None).wait()


if __name__ == "__main__":
    main()
