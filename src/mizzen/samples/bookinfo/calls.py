"""How Bookinfo's services call each other."""

from __future__ import annotations

import http.client
import json
import os
from collections.abc import Mapping
from typing import Any

from mizzen.samples.serving import Request

PORT = 9080
PROPAGATED = (
    "x-request-id",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "traceparent",
    "tracestate",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "sw8",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
    "end-user",
)
"""What joins the spans of a trace, and what rules and policies look at: only the application can hand it on."""


def propagated(request: Request) -> dict[str, str]:
    return {name: request.headers[name] for name in PROPAGATED if name in request.headers}


def address(service: str) -> tuple[str, int]:
    """Host and port of a service: $SERVICE_HOSTNAME, $SERVICE_SERVICE_PORT and $SERVICES_DOMAIN may say otherwise.

    Kubernetes sets $SERVICE_PORT to something else entirely, which is why the name is longer.
    """
    prefix = service.upper()
    domain = os.environ.get("SERVICES_DOMAIN", "")
    host = os.environ.get(f"{prefix}_HOSTNAME", service) + (f".{domain}" if domain else "")
    return host, int(os.environ.get(f"{prefix}_SERVICE_PORT", PORT))


def get(service: str, path: str, headers: Mapping[str, str], timeout: float) -> tuple[int, Any]:
    """Status and document, or None where it is no JSON. Raises OSError and http.client.HTTPException.

    `timeout` bounds each wait for bytes, in seconds. Every call has a connection of its own, as the originals' have.
    """
    host, port = address(service)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    try:
        return answer.status, json.loads(content)
    except ValueError:
        return answer.status, None
