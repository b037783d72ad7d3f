"""ext-authz: an authorizer for CUSTOM policies, by HTTP and by gRPC. It allows who sends `x-ext-authz: allow`.

`python -m mizzen.samples.ext_authz [--port 8000] [--grpc 9000]`. It answers like Istio's sample of that name: with the
header `x-ext-authz-check-result`, which the mesh can pass on, `allowed` or `denied`.
https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/auth/v3/external_auth.proto
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from mizzen.samples.serving import Request, Response, serve

PORT, GRPC_PORT = 8000, 9000
GRPC_WORKERS = 8
HEADER, ALLOW = "x-ext-authz", "allow"
RESULT = "x-ext-authz-check-result"
BODY = f"denied by ext_authz for not found header `{HEADER}: {ALLOW}` in the request"
PERMISSION_DENIED = b"\x08\x07"
"""`google.rpc.Status{code: 7}`."""
FORBIDDEN = b"\x08\x93\x03"
"""`envoy.type.v3.HttpStatus{code: 403}`."""


def app(request: Request) -> Response:
    if request.headers.get(HEADER, "") == ALLOW:
        return Response(headers=((RESULT, "allowed"),))
    return Response(403, BODY.encode(), headers=((RESULT, "denied"),))


def check(request: bytes) -> bytes:
    """A CheckRequest to its CheckResponse; both serialised."""
    if ALLOW in headers_of(request).get(HEADER, ()):
        return _field(1, b"") + _field(3, _field(2, _header("allowed")))
    refused = _field(1, FORBIDDEN) + _field(2, _header("denied")) + _field(3, BODY.encode())
    return _field(1, PERMISSION_DENIED) + _field(2, refused)


def headers_of(request: bytes) -> dict[str, list[str]]:
    """`attributes.request.http.headers`: fields 1, 4, 2 and 3, a map of key (1) to value (2)."""
    found: dict[str, list[str]] = {}
    for entry in _at(request, 1, 4, 2, 3):
        key, value = (b"".join(_at(entry, number)).decode(errors="replace") for number in (1, 2))
        found.setdefault(key, []).append(value)
    return found


def _at(message: bytes, first: int, *rest: int) -> Iterator[bytes]:
    for number, value in _fields(message):
        if number == first:
            yield from _at(value, *rest) if rest else (value,)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of the length-delimited fields; others are passed over."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif kind == 0:
            at = _varint(message, at)[1]
        else:
            at += {1: 8, 5: 4}[kind]


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _field(number: int, content: bytes) -> bytes:
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content


def _header(result: str) -> bytes:
    """A HeaderValueOption."""
    return _field(1, _field(1, RESULT.encode()) + _field(2, result.encode()))


def start_grpc(port: int) -> Any:
    """A started `grpc.Server`."""
    from concurrent.futures import ThreadPoolExecutor

    import grpc

    handlers = {"Check": grpc.unary_unary_rpc_method_handler(lambda request, _: check(request))}
    service = grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", handlers)
    server = grpc.server(ThreadPoolExecutor(GRPC_WORKERS), handlers=(service,))
    if not server.add_insecure_port(f"0.0.0.0:{port}"):
        raise OSError(f"cannot listen on port {port}")
    server.start()
    return server


def main() -> None:
    parser = argparse.ArgumentParser(description="Allows who sends a header.")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument("--grpc", type=int, default=GRPC_PORT)
    options = parser.parse_args()
    server = start_grpc(options.grpc)
    serve(app, options.port, "ext-authz")
    server.stop(grace=None).wait()


if __name__ == "__main__":
    main()
