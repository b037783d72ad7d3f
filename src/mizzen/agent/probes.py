"""The app's own probes, made by the agent because the kubelet's would meet the proxy's TLS.

Istio's injector moves each probe to port 15020 and keeps the original in `ISTIO_KUBE_APP_PROBERS`
(https://istio.io/latest/docs/ops/configuration/mesh/app-health-check/).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import grpc

from mizzen.agent.outgoing import Reply, call
from mizzen.ca.messages import message_classes

PROBE_SOURCE = "127.0.0.6"
"""Capture lets pass what comes from this address, so that the probe meets the app and not the proxy."""
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 10
_FAILED = 500

_HEALTH = message_classes(
    "grpc.health.v1",
    {"HealthCheckRequest": {"service": (1, "string")}, "HealthCheckResponse": {"status": (1, "int32")}},
)
_SERVING = 1


async def probe(specification: Mapping[str, Any], address: str) -> tuple[int, bytes]:
    """The status and body that a kubelet is to see. An app that does not answer is a 500 with the reason."""
    timeout = float(specification.get("timeoutSeconds") or 1)
    try:
        if http := specification.get("httpGet"):
            return await _http(http, address, timeout)
        if tcp := specification.get("tcpSocket"):
            return await _tcp(int(tcp["port"]), address, timeout)
        if remote := specification.get("grpc"):
            return await _grpc(remote, address, timeout)
    except (OSError, TimeoutError, grpc.aio.AioRpcError) as error:
        return _FAILED, f"the probe failed: {error}\n".encode()
    return _FAILED, f"a probe is httpGet, tcpSocket or grpc, not {sorted(specification)}\n".encode()


async def _http(asked: Mapping[str, Any], address: str, timeout: float) -> tuple[int, bytes]:
    headers = {header["name"]: header.get("value", "") for header in asked.get("httpHeaders") or ()}
    port, tls = int(asked["port"]), str(asked.get("scheme", "HTTP")).upper() == "HTTPS"
    headers = {"Host": f"{address}:{port}", "User-Agent": "kube-probe/1.32", **headers}
    path = "/" + str(asked.get("path", "/")).lstrip("/")
    for _ in range(_MOST_REDIRECTS):
        reply = await call(
            "GET", port, path, host=address, source=PROBE_SOURCE, headers=headers, timeout=timeout, tls=tls
        )
        further = _redirect_within(reply, path, headers["Host"])
        if further is None:
            return reply.status, reply.body
        path = further
    return _FAILED, f"more than {_MOST_REDIRECTS} redirects\n".encode()


def _redirect_within(reply: Reply, path: str, host: str) -> str | None:
    """The path to go on with. None: the answer is final, or leads to another host, which a kubelet does not follow."""
    location = reply.headers.get("location")
    if reply.status not in _REDIRECTS or not location:
        return None
    target = urlsplit(urljoin(f"http://{host}{path}", location))
    if target.hostname != urlsplit(f"//{host}").hostname:
        return None
    return f"{target.path or '/'}?{target.query}" if target.query else target.path or "/"


async def _tcp(port: int, address: str, timeout: float) -> tuple[int, bytes]:
    connecting = asyncio.open_connection(address, port, local_addr=(PROBE_SOURCE, 0))
    _, writer = await asyncio.wait_for(connecting, timeout)
    writer.close()
    return 200, b""


async def _grpc(asked: Mapping[str, Any], address: str, timeout: float) -> tuple[int, bytes]:
    async with grpc.aio.insecure_channel(f"{address}:{int(asked['port'])}") as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_HEALTH["HealthCheckResponse"].FromString,
        )
        response = await check(_HEALTH["HealthCheckRequest"](service=asked.get("service") or ""), timeout=timeout)
    return (200, b"") if response.status == _SERVING else (_FAILED, f"status {response.status}\n".encode())
