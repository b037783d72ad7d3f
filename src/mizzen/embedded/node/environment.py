"""A container's environment: env, envFrom, service links and `$(VAR)` expansion. Pure.

https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mizzen.embedded.node.fields import Capacity, PodAddresses, Unresolved, field, resource_field
from mizzen.kube.api import JSON

Source: TypeAlias = Callable[[Literal["ConfigMap", "Secret"], str], JSON | None]
"""An object of the Pod's namespace by name, or None."""

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
_NAME = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What variables may refer to beside the Pod itself."""

    addresses: PodAddresses
    capacity: Capacity
    source: Source
    services: Sequence[JSON] = ()
    """The Services of the Pod's namespace, and `kubernetes` of `default`."""


def expand(text: str, known: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value if known and stays as it is if not; `$$` is one dollar sign."""

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        return known.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def environment(pod: JSON, container: JSON, around: Surroundings) -> dict[str, str]:
    """Service links first, then envFrom, then env in order; later ones win. Raises Unresolved."""
    links = service_links(around.services) if pod["spec"].get("enableServiceLinks") is not False else {}
    essential = {
        name: value for name, value in service_links(around.services).items() if name.startswith("KUBERNETES_")
    }
    result = {**links, **essential}
    for origin in container.get("envFrom") or ():
        result.update(_all_of(origin, around.source))
    for variable in container.get("env") or ():
        value = _value(pod, container, variable, result, around)
        if value is not None:
            result[variable["name"]] = value
    return result


def _all_of(origin: JSON, source: Source) -> dict[str, str]:
    kind: Literal["ConfigMap", "Secret"] = "ConfigMap" if "configMapRef" in origin else "Secret"
    reference = origin.get("configMapRef") or origin.get("secretRef") or {}
    obj = source(kind, reference["name"])
    if obj is None:
        if reference.get("optional"):
            return {}
        raise Unresolved(f'{kind.lower()} "{reference["name"]}" not found')
    prefix = origin.get("prefix") or ""
    values = texts(obj)
    return {f"{prefix}{key}": value for key, value in values.items() if _NAME.fullmatch(f"{prefix}{key}")}


def texts(obj: JSON) -> dict[str, str]:
    """The entries of a ConfigMap or a Secret as text; bytes that are no text are left out, as variables must be."""
    found: dict[str, str] = {}
    for key, value in (obj.get("data") or {}).items():
        if obj.get("kind") != "Secret":
            found[key] = value
            continue
        found[key] = base64.b64decode(value).decode(errors="surrogateescape")
    return found


def _value(pod: JSON, container: JSON, variable: JSON, known: Mapping[str, str], around: Surroundings) -> str | None:
    origin = variable.get("valueFrom")
    if not origin:
        return expand(str(variable.get("value") or ""), known)
    if reference := origin.get("fieldRef"):
        return field(pod, reference["fieldPath"], around.addresses)
    if reference := origin.get("resourceFieldRef"):
        return resource_field(pod, reference, container["name"], around.capacity)
    if reference := origin.get("configMapKeyRef"):
        return _entry("ConfigMap", reference, around.source)
    if reference := origin.get("secretKeyRef"):
        return _entry("Secret", reference, around.source)
    raise Unresolved(f"env {variable['name']}: valueFrom {', '.join(origin)} is not supported")


def _entry(kind: Literal["ConfigMap", "Secret"], reference: JSON, source: Source) -> str | None:
    obj, key = source(kind, reference["name"]), reference["key"]
    value = texts(obj).get(key) if obj else None
    if value is not None or reference.get("optional"):
        return value
    if obj is None:
        raise Unresolved(f'{kind.lower()} "{reference["name"]}" not found')
    namespace = obj["metadata"].get("namespace", "")
    raise Unresolved(f"couldn't find key {key} in {kind} {namespace}/{reference['name']}")


def service_links(services: Iterable[JSON]) -> dict[str, str]:
    """REVIEWS_SERVICE_HOST, REVIEWS_SERVICE_PORT and Docker's older names, for each Service with an address."""
    result: dict[str, str] = {}
    for service in services:
        address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports") or []
        if not address or address == "None" or not ports:
            continue
        result.update(_links(service["metadata"]["name"].upper().replace("-", "_"), address, ports))
    return result


def _links(name: str, address: str, ports: Sequence[JSON]) -> dict[str, str]:
    first = ports[0]
    result = {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": str(first["port"])}
    result[f"{name}_PORT"] = f"{(first.get('protocol') or 'TCP').lower()}://{address}:{first['port']}"
    for port in ports:
        if port.get("name"):
            result[f"{name}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(port["port"])
        protocol = port.get("protocol") or "TCP"
        prefix = f"{name}_PORT_{port['port']}_{protocol}"
        result |= {
            prefix: f"{protocol.lower()}://{address}:{port['port']}",
            f"{prefix}_PROTO": protocol.lower(),
            f"{prefix}_PORT": str(port["port"]),
            f"{prefix}_ADDR": address,
        }
    return result
