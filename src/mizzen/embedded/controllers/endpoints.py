"""What a Service leads to: EndpointSlices and Endpoints, from the Pods it selects. Pure.

https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from mizzen.embedded.controllers.objects import is_deleting, labels_of, owner_reference, status
from mizzen.embedded.controllers.pods import is_finished, is_ready
from mizzen.kube.api import JSON

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
ZONE = "topology.kubernetes.io/zone"
MOST = 100
"""Endpoints in a slice."""

Ports: TypeAlias = tuple[tuple[str, str, int, str], ...]
"""(name, protocol, number, appProtocol) as one Pod serves a Service's ports: a named targetPort may differ per Pod."""


def is_selected(service: JSON, pod: JSON) -> bool:
    selector = service["spec"].get("selector")
    return bool(selector) and selector.items() <= labels_of(pod).items()


def families(service: JSON) -> list[str]:
    """IP families in which it is called, the first one first."""
    return service["spec"].get("ipFamilies") or ["IPv4"]


def family_of(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def address(pod: JSON, family: str) -> str | None:
    """The Pod's in this IP family."""
    every = [each["ip"] for each in status(pod).get("podIPs") or ()] or [status(pod).get("podIP")]
    return next((each for each in every if each and family_of(each) == family), None)


def takes_part(pod: JSON, family: str) -> bool:
    """Has an address that may still be in use."""
    return bool(address(pod, family)) and not is_finished(pod)


def ports_on(service: JSON, pod: JSON) -> Ports:
    """The Service's ports as this Pod serves them; a named port that the Pod does not have is left out."""
    found = []
    for port in service["spec"].get("ports") or ():
        protocol = port.get("protocol", "TCP")
        number = _target(port, protocol, pod)
        if number is not None:
            found.append((port.get("name", ""), protocol, number, port.get("appProtocol", "")))
    return tuple(found)


def _target(port: JSON, protocol: str, pod: JSON) -> int | None:
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec = pod.get("spec") or {}
    sidecars = [each for each in spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    for container in [*(spec.get("containers") or ()), *sidecars]:
        for offered in container.get("ports") or ():
            if offered.get("name") == target and offered.get("protocol", "TCP") == protocol:
                return int(offered["containerPort"])
    return None


def endpoint(service: JSON, pod: JSON, family: str, zones: Mapping[str, str]) -> JSON:
    """One entry of a slice. A Pod on its way out is not ready, but may still be serving."""
    spec, metadata = pod.get("spec") or {}, pod["metadata"]
    serving, terminating = is_ready(pod), is_deleting(pod)
    published = bool(service["spec"].get("publishNotReadyAddresses"))
    node = spec.get("nodeName", "")
    entry: JSON = {
        "addresses": [address(pod, family)],
        "conditions": {
            "ready": published or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {
            "kind": "Pod",
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
    }
    if node:
        entry["nodeName"] = node
    if node in zones:
        entry["zone"] = zones[node]
    if spec.get("hostname") and spec.get("subdomain") == service["metadata"]["name"]:
        entry["hostname"] = spec["hostname"]
    return entry


def by_ports(service: JSON, pods: Iterable[JSON], family: str) -> dict[Ports, list[JSON]]:
    """The Pods that can be reached, grouped by the ports they serve, oldest first."""
    groups: dict[Ports, list[JSON]] = {}
    reachable = (pod for pod in pods if takes_part(pod, family))
    for pod in sorted(reachable, key=lambda pod: pod["metadata"]["name"]):
        groups.setdefault(ports_on(service, pod), []).append(pod)
    return groups or {ports_on(service, {}): []}


def slices(service: JSON, pods: Iterable[JSON], zones: Mapping[str, str], present: Iterable[JSON]) -> list[JSON]:
    """The slices there should be, of each IP family. Those of `present` with the same ports are kept by name; new ones
    have none yet."""
    free: dict[tuple[str, Ports], list[JSON]] = {}
    for each in present:
        free.setdefault((each["addressType"], _ports_of(each)), []).append(each)
    every, wanted = list(pods), []
    for family in families(service):
        for ports, group in by_ports(service, every, family).items():
            for start in range(0, max(len(group), 1), MOST):
                entries = [endpoint(service, pod, family, zones) for pod in group[start : start + MOST]]
                reusable = free.get((family, ports))
                wanted.append(_slice(service, family, ports, entries, reusable.pop(0) if reusable else None))
    return wanted


def _ports_of(each: JSON) -> Ports:
    return tuple(
        (port.get("name", ""), port.get("protocol", "TCP"), port["port"], port.get("appProtocol", ""))
        for port in each.get("ports") or ()
    )


def _slice(service: JSON, family: str, ports: Ports, entries: list[JSON], present: JSON | None) -> JSON:
    metadata = service["metadata"]
    own = {SERVICE_NAME: metadata["name"], MANAGED_BY: CONTROLLER}
    headless = {HEADLESS: ""} if service["spec"].get("clusterIP") == "None" else {}
    named = {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            **(present["metadata"] if present is not None else named),
            "labels": {**labels_of(service), **own, **headless},
            "ownerReferences": [owner_reference(service)],
        },
        "addressType": family,
        "ports": [_slice_port(port) for port in ports],
        "endpoints": entries,
    }


def _slice_port(port: tuple[str, str, int, str]) -> JSON:
    name, protocol, number, app_protocol = port
    return {"name": name, "protocol": protocol, "port": number} | (
        {"appProtocol": app_protocol} if app_protocol else {}
    )


def subsets(service: JSON, pods: Iterable[JSON]) -> list[JSON]:
    """The same as `Endpoints` says it, which knows one IP family. Pods on their way out are left out, as are those that
    serve no port."""
    answer = []
    for ports, group in by_ports(service, pods, families(service)[0]).items():
        staying = [pod for pod in group if not is_deleting(pod)]
        published = bool(service["spec"].get("publishNotReadyAddresses"))
        ready = [_address(service, pod) for pod in staying if published or is_ready(pod)]
        others = [_address(service, pod) for pod in staying if not (published or is_ready(pod))]
        if (ready or others) and (ports or service["spec"].get("clusterIP") == "None"):
            said = {"addresses": ready, "notReadyAddresses": others, "ports": [_slice_port(port) for port in ports]}
            answer.append({key: value for key, value in said.items() if value})
    return answer


def _address(service: JSON, pod: JSON) -> JSON:
    entry = endpoint(service, pod, families(service)[0], {})
    kept: JSON = {key: entry[key] for key in ("hostname", "nodeName", "targetRef") if key in entry}
    return {"ip": entry["addresses"][0], **kept}


def endpoints_object(service: JSON, pods: Iterable[JSON], present: JSON | None) -> JSON:
    metadata = service["metadata"]
    headless = {HEADLESS: ""} if service["spec"].get("clusterIP") == "None" else {}
    named = {"name": metadata["name"], "namespace": metadata["namespace"]}
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            **(present["metadata"] if present is not None else named),
            "labels": {**labels_of(service), **headless, "endpoints.kubernetes.io/managed-by": "endpoint-controller"},
        },
        "subsets": subsets(service, pods),
    }
