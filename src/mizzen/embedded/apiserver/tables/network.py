"""Columns of Services, endpoints, Ingresses and NetworkPolicies."""

from __future__ import annotations

from mizzen.embedded.apiserver.tables.cells import NAME, NONE, UNSET, Column, at, joined, labels, selector, text
from mizzen.embedded.apiserver.tables.workloads import AGE
from mizzen.kube.api import JSON

_SHOWN_ENDPOINTS = 3


def _external_ip(service: JSON) -> str:
    spec = service["spec"]
    asked = spec.get("externalIPs") or []
    ingress = at(service, "status.loadBalancer.ingress") or []
    kind = spec.get("type", "ClusterIP")
    if kind == "ExternalName":
        return str(spec.get("externalName"))
    if kind == "LoadBalancer":
        found = [each.get("ip") or each.get("hostname", "") for each in ingress]
        return ",".join([*found, *asked]) or "<pending>"
    return joined(asked)


def _service_ports(service: JSON) -> str:
    return joined(_service_port(each) for each in service["spec"].get("ports") or ())


def _service_port(port: JSON) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node}/{port.get('protocol', 'TCP')}"


def _endpoints(endpoints: JSON) -> str:
    found = [shown for subset in endpoints.get("subsets") or () for shown in _subset_addresses(subset)]
    return _shortened(found, " + {} more...")


def _subset_addresses(subset: JSON) -> list[str]:
    addresses = [each["ip"] for each in subset.get("addresses") or ()]
    ports = subset.get("ports")
    return [f"{address}:{port['port']}" for port in ports for address in addresses] if ports else addresses


def _shortened(values: list[str], tail: str) -> str:
    shown = ",".join(values[:_SHOWN_ENDPOINTS])
    more = len(values) - _SHOWN_ENDPOINTS
    return (shown + tail.format(more)) if more > 0 else shown or NONE


def _slice_ports(endpoint_slice: JSON) -> str:
    ports = endpoint_slice.get("ports") or []
    return _shortened([str(each.get("port", "*")) for each in ports], " + {} more...") if ports else UNSET


def _slice_addresses(endpoint_slice: JSON) -> str:
    addresses = [address for each in endpoint_slice.get("endpoints") or () for address in each.get("addresses") or ()]
    return _shortened(addresses, " + {} more...") if addresses else UNSET


def _ingress_hosts(ingress: JSON) -> str:
    hosts = [each["host"] for each in at(ingress, "spec.rules") or () if each.get("host")]
    if not hosts:
        return "*"
    return _shortened(hosts, " + {} more...")


def _ingress_address(ingress: JSON) -> str:
    found = at(ingress, "status.loadBalancer.ingress") or ()
    return ",".join(each.get("ip") or each.get("hostname", "") for each in found)


def _ingress_class_parameters(obj: JSON) -> str:
    parameters = at(obj, "spec.parameters")
    if not parameters:
        return NONE
    kind = ".".join(part for part in (parameters["kind"], parameters.get("apiGroup")) if part)
    return f"{kind}/{parameters['name']}"


NETWORK: dict[str, tuple[Column, ...]] = {
    "services": (
        NAME,
        text("Type", lambda obj: obj["spec"].get("type", "ClusterIP")),
        text("Cluster-IP", lambda obj: obj["spec"].get("clusterIP") or NONE),
        text("External-IP", _external_ip),
        text("Port(s)", _service_ports),
        AGE,
        text("Selector", lambda obj: labels(obj["spec"].get("selector")), priority=1),
    ),
    "endpoints": (NAME, text("Endpoints", _endpoints), AGE),
    "endpointslices.discovery.k8s.io": (
        NAME,
        text("AddressType", lambda obj: obj.get("addressType", "")),
        text("Ports", _slice_ports),
        text("Endpoints", _slice_addresses),
        AGE,
    ),
    "ingresses.networking.k8s.io": (
        NAME,
        text("Class", lambda obj: at(obj, "spec.ingressClassName") or NONE),
        text("Hosts", _ingress_hosts),
        text("Address", _ingress_address),
        text("Ports", lambda obj: "80, 443" if at(obj, "spec.tls") else "80"),
        AGE,
    ),
    "ingressclasses.networking.k8s.io": (
        NAME,
        text("Controller", lambda obj: at(obj, "spec.controller")),
        text("Parameters", _ingress_class_parameters),
        AGE,
    ),
    "networkpolicies.networking.k8s.io": (
        NAME,
        text("Pod-Selector", lambda obj: selector(at(obj, "spec.podSelector"))),
        AGE,
    ),
}
