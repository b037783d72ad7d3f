"""Probes of the app, led through the agent: the kubelet's plain calls would not pass a strict mesh port.

https://istio.io/latest/docs/ops/configuration/mesh/app-health-check/
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

_PROBES = {"readinessProbe": "readyz", "livenessProbe": "livez", "startupProbe": "startupz"}
_HOOKS = ("preStop", "postStart")
_CALLS = ("httpGet", "tcpSocket", "grpc")


def rewritten(container: JSON, status_port: int) -> tuple[JSON, JSON]:
    """The container with its probes led to the agent, and what the agent must call instead, by path.

    A probe whose named port does not exist stays as it is: the kubelet would refuse it as well.
    """
    changed, originals = deepcopy(container), {}
    ports = {port["name"]: port["containerPort"] for port in container.get("ports") or () if port.get("name")}
    for place, path in _places(changed):
        if original := _original(place, ports, status_port):
            originals[path] = original
            _lead_to_agent(place, path, status_port)
    return changed, originals


def _places(container: JSON) -> Iterator[tuple[JSON, str]]:
    """Probes and lifecycle hooks that are there, with the agent's path for each."""
    name = container["name"]
    for field, path in _PROBES.items():
        if container.get(field):
            yield container[field], f"/app-health/{name}/{path}"
    for hook in _HOOKS:
        if handler := (container.get("lifecycle") or {}).get(hook):
            yield handler, f"/app-lifecycle/{name}/{hook}"


def _original(place: JSON, ports: dict[str, int], status_port: int) -> JSON | None:
    call = next((call for call in _CALLS if place.get(call)), None)
    if call is None:
        return None
    target = dict(place[call])
    if isinstance(target.get("port"), str) and not target["port"].isdigit():
        if target["port"] not in ports:
            return None
        target["port"] = ports[target["port"]]
    elif call == "httpGet" and int(target.get("port", 0)) == status_port:
        return None
    timeout = {"timeoutSeconds": place["timeoutSeconds"]} if place.get("timeoutSeconds") else {}
    return {call: target, **timeout}


def _lead_to_agent(place: JSON, path: str, status_port: int) -> None:
    action = dict(place.get("httpGet") or {})
    if action.get("scheme") == "HTTPS":
        action["scheme"] = "HTTP"
    for call in _CALLS:
        place.pop(call, None)
    place["httpGet"] = {**action, "path": path, "port": status_port}
