"""The Pod annotations that steer injection, checked: a typo must not silently change what is captured.

https://istio.io/latest/docs/reference/config/annotations/
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any

from mizzen.api.decode import Undecodable, convert
from mizzen.api.documents import parse_settings
from mizzen.api.mesh import ProxyConfig

PROXY_CONFIG = "proxy.istio.io/config"
TEMPLATES = "inject.istio.io/templates"
_TRAFFIC = "traffic.sidecar.istio.io/"
_SIDECAR = "sidecar.istio.io/"
_CPU = re.compile(r"\d+(\.\d+)?m?")
_MEMORY = re.compile(r"\d+(\.\d+)?([kMGTPE]i?|m)?")


class InvalidAnnotation(ValueError):
    """The Pod cannot be injected as it asks; the message names the annotation and what it may hold."""


def _ports(value: str) -> None:
    if value not in ("", "*") and not all(part.strip().isdigit() and int(part) < 65536 for part in value.split(",")):
        raise ValueError("write port numbers, comma-separated")


def _port_list(value: str) -> None:
    if value == "*":
        raise ValueError("write port numbers, comma-separated; all of them cannot be excluded")
    _ports(value)


def _networks(value: str) -> None:
    if value in ("", "*"):
        return
    for part in value.split(","):
        try:
            ip_network(part.strip(), strict=False)
        except ValueError as error:
            raise ValueError(f"write CIDRs, comma-separated ({error})") from error


def _boolean(value: str) -> None:
    if value not in ("true", "false"):
        raise ValueError('write "true" or "false"')


def _matching(pattern: re.Pattern[str], example: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if not pattern.fullmatch(value):
            raise ValueError(f"write a quantity, for example {example}")

    return check


def _one_of(*words: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if value not in words:
            raise ValueError(f"write one of {', '.join(words)}")

    return check


def _json_object(value: str) -> None:
    if not isinstance(json.loads(value), dict):
        raise ValueError("write a JSON object")


def _number(value: str) -> None:
    if not value.isdigit():
        raise ValueError("write a number")


_CHECKS: Mapping[str, Callable[[str], None]] = {
    f"{_TRAFFIC}includeOutboundIPRanges": _networks,
    f"{_TRAFFIC}excludeOutboundIPRanges": _networks,
    f"{_TRAFFIC}includeInboundPorts": _ports,
    f"{_TRAFFIC}excludeInboundPorts": _port_list,
    f"{_TRAFFIC}includeOutboundPorts": _ports,
    f"{_TRAFFIC}excludeOutboundPorts": _port_list,
    f"{_SIDECAR}interceptionMode": _one_of("REDIRECT", "TPROXY", "NONE"),
    f"{_SIDECAR}nativeSidecar": _boolean,
    f"{_SIDECAR}rewriteAppHTTPProbers": _boolean,
    f"{_SIDECAR}userVolume": _json_object,
    f"{_SIDECAR}userVolumeMount": _json_object,
    f"{_SIDECAR}proxyCPU": _matching(_CPU, "100m"),
    f"{_SIDECAR}proxyCPULimit": _matching(_CPU, "2000m"),
    f"{_SIDECAR}proxyMemory": _matching(_MEMORY, "128Mi"),
    f"{_SIDECAR}proxyMemoryLimit": _matching(_MEMORY, "1024Mi"),
    "status.sidecar.istio.io/port": _number,
    "readiness.status.sidecar.istio.io/initialDelaySeconds": _number,
    "readiness.status.sidecar.istio.io/periodSeconds": _number,
    "readiness.status.sidecar.istio.io/failureThreshold": _number,
}


def check(annotations: Mapping[str, str]) -> None:
    """Raises InvalidAnnotation for the first one that does not hold what it should."""
    for name, value in annotations.items():
        if found := _CHECKS.get(name):
            try:
                found(value)
            except ValueError as error:
                raise InvalidAnnotation(f"annotation {name}: {value!r} is not understood; {error}") from error


def proxy_config(annotations: Mapping[str, str], mesh_default: Mapping[str, Any]) -> tuple[dict[str, Any], ProxyConfig]:
    """The proxy's configuration as written and as read: the annotation wins by field, in proxyMetadata by key."""
    try:
        own = parse_settings(annotations.get(PROXY_CONFIG, ""), dict[str, Any])
        metadata = {**(mesh_default.get("proxyMetadata") or {}), **(own.get("proxyMetadata") or {})}
        written = {**mesh_default, **own, **({"proxyMetadata": metadata} if metadata else {})}
        return written, convert(written, ProxyConfig)
    except Undecodable as error:
        raise InvalidAnnotation(f"annotation {PROXY_CONFIG}: {error}") from error
