"""discovery.k8s.io: EndpointSlices, the addresses behind a Service."""

from __future__ import annotations

from mizzen.api.base import Model, Resource

SERVICE_NAME = "kubernetes.io/service-name"
"""The label that says whose slice it is."""


class EndpointConditions(Model):
    ready: bool | None = None
    """None counts as ready."""
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(Model):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Endpoint(Model):
    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()
    hostname: str = ""
    node_name: str = ""
    target_ref: ObjectReference | None = None
    zone: str = ""


class EndpointPort(Model):
    name: str = ""
    port: int | None = None
    protocol: str = "TCP"
    app_protocol: str = ""


class EndpointSlice(Resource):
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[EndpointPort, ...] = ()
