"""What must hold of Services and Ingresses."""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.embedded.apiserver import validation_names as check
from mizzen.embedded.apiserver.errors import Cause, invalid_value, required
from mizzen.embedded.apiserver.ip_families import FAMILIES, PREFERRED, REQUIRED, SINGLE
from mizzen.kube.api import JSON

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_AFFINITIES = ("ClientIP", "None")
_TRAFFIC = ("Cluster", "Local")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


def service(obj: JSON) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    kind, ports = spec.get("type"), spec.get("ports") or []
    yield from check.choice("spec.type", kind, _TYPES)
    yield from check.choice("spec.sessionAffinity", spec.get("sessionAffinity"), _AFFINITIES)
    for policy in ("internalTrafficPolicy", "externalTrafficPolicy"):
        yield from check.choice(f"spec.{policy}", spec.get(policy), _TRAFFIC)
    yield from _families(spec)
    if kind == "ExternalName":
        yield from _external_name(spec)
    elif not ports and spec.get("clusterIP") != "None":
        yield required("spec.ports")
    yield from check.labels("spec.selector", spec.get("selector"))
    yield from _service_ports(ports, kind)


def _families(spec: JSON) -> Iterator[Cause]:
    """By themselves; whether this cluster has them is decided when addresses are given (`ip_families`)."""
    families = spec.get("ipFamilies") or []
    for index, family in enumerate(families):
        at = f"spec.ipFamilies[{index}]"
        yield from check.choice(at, family, FAMILIES)
        if family in families[:index]:
            yield check.duplicate(at, family)
    yield from check.choice("spec.ipFamilyPolicy", spec.get("ipFamilyPolicy"), (PREFERRED, REQUIRED, SINGLE))


def _external_name(spec: JSON) -> Iterator[Cause]:
    name = (spec.get("externalName") or "").removesuffix(".")
    if not name:
        yield required("spec.externalName")
    else:
        yield from check.dns_subdomain("spec.externalName", name)
    if spec.get("clusterIP") not in (None, "", "None"):
        yield check.forbidden("spec.clusterIPs[0]", "may not be set when `type` is 'ExternalName'")


def _service_ports(ports: list[JSON], kind: str | None) -> Iterator[Cause]:
    names: set[str] = set()
    numbers: set[tuple[object, object]] = set()
    for index, port in enumerate(ports):
        at, name = f"spec.ports[{index}]", port.get("name") or ""
        yield from _service_port_name(f"{at}.name", name, names, needed=len(ports) > 1)
        yield from check.port_number(f"{at}.port", port.get("port"))
        yield from check.protocol(f"{at}.protocol", port.get("protocol"))
        if port.get("targetPort") is not None:
            yield from check.port_reference(f"{at}.targetPort", port["targetPort"])
        key = (port.get("protocol"), port.get("port"))
        if key in numbers:
            yield check.duplicate(at, f"{key[0]} {key[1]}")
        numbers.add(key)
        if port.get("nodePort") and kind in ("ClusterIP", "ExternalName"):
            yield check.forbidden(f"{at}.nodePort", f"may not be used when `type` is '{kind}'")


def _service_port_name(field: str, name: str, seen: set[str], needed: bool) -> Iterator[Cause]:
    if not name:
        if needed:
            yield required(field)
        return
    yield from check.dns_label(field, name)
    if name in seen:
        yield check.duplicate(field, name)
    seen.add(name)


def ingress(obj: JSON) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    rules = spec.get("rules") or []
    if not rules and spec.get("defaultBackend") is None:
        yield invalid_value("spec", "", "either `defaultBackend` or `rules` must be specified")
    for index, rule in enumerate(rules):
        at, host = f"spec.rules[{index}]", rule.get("host") or ""
        if host:
            yield from check.dns_subdomain(f"{at}.host", host.removeprefix("*."))
        for number, path in enumerate((rule.get("http") or {}).get("paths") or ()):
            yield from _ingress_path(path, f"{at}.http.paths[{number}]")


def _ingress_path(path: JSON, at: str) -> Iterator[Cause]:
    kind, text = path.get("pathType"), path.get("path") or ""
    if not kind:
        yield required(f"{at}.pathType", "pathType must be specified")
    yield from check.choice(f"{at}.pathType", kind or None, _PATH_TYPES)
    if kind in ("Exact", "Prefix") and not text.startswith("/"):
        yield invalid_value(f"{at}.path", text, "must be an absolute path")
    target = (path.get("backend") or {}).get("service")
    if target is not None:
        yield from check.needed(f"{at}.backend.service.name", target.get("name"))
        port = target.get("port") or {}
        if not port.get("name") and not port.get("number"):
            yield required(f"{at}.backend.service.port", "port name or number is required")
