"""The core group of Kubernetes, as far as a mesh and its injector look: tolerant, unknown fields are skipped.

https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.34/
"""

from __future__ import annotations

from typing import Any, TypeAlias

from msgspec import field

from mizzen.api.base import Metadata, Model, Object, Resource

IntOrString: TypeAlias = int | str
DEFAULT_ACCOUNT = "default"
"""The service account of Pods that name none."""


class ServicePort(Model):
    port: int
    name: str = ""
    protocol: str = "TCP"
    app_protocol: str = ""
    target_port: IntOrString | None = None
    """None: the same as `port`."""
    node_port: int = 0


class ServiceSpec(Model):
    ports: tuple[ServicePort, ...] = ()
    selector: dict[str, str] = {}
    type: str = "ClusterIP"
    cluster_ip: str = field(default="", name="clusterIP")
    """`None` (the word) makes it headless."""
    cluster_ips: tuple[str, ...] = field(default=(), name="clusterIPs")
    ip_families: tuple[str, ...] = field(default=(), name="ipFamilies")
    external_ips: tuple[str, ...] = field(default=(), name="externalIPs")
    external_name: str = ""
    publish_not_ready_addresses: bool = False
    internal_traffic_policy: str = ""
    traffic_distribution: str = ""


class LoadBalancerIngress(Model):
    ip: str = ""
    hostname: str = ""


class LoadBalancerStatus(Model):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Model):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Resource):
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class ContainerPort(Model):
    container_port: int
    name: str = ""
    protocol: str = "TCP"
    host_port: int = 0


class HTTPGetAction(Model):
    port: IntOrString
    path: str = ""
    host: str = ""
    scheme: str = ""
    http_headers: tuple[dict[str, str], ...] = ()


class TCPSocketAction(Model):
    port: IntOrString
    host: str = ""


class GRPCAction(Model):
    port: int
    service: str = ""


class Probe(Model):
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    timeout_seconds: int = 1


class Container(Model):
    name: str = ""
    image: str = ""
    ports: tuple[ContainerPort, ...] = ()
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    startup_probe: Probe | None = None
    restart_policy: str = ""


class PodSpec(Model):
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    service_account_name: str = ""
    node_name: str = ""
    host_network: bool = False
    hostname: str = ""
    subdomain: str = ""


class PodIP(Model):
    ip: str = ""


class Condition(Model):
    type: str
    status: str
    reason: str = ""
    message: str = ""


class PodStatus(Model):
    phase: str = ""
    pod_ip: str = field(default="", name="podIP")
    pod_ips: tuple[PodIP, ...] = field(default=(), name="podIPs")
    host_ip: str = field(default="", name="hostIP")
    conditions: tuple[Condition, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """Of every IP family, the first one first."""
        return tuple(one.ip for one in self.pod_ips if one.ip) or ((self.pod_ip,) if self.pod_ip else ())


class Pod(Resource):
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def account(self) -> str:
        """The service account it runs as."""
        return self.spec.service_account_name or DEFAULT_ACCOUNT


class PodTemplateSpec(Model):
    metadata: Metadata = Metadata()
    spec: PodSpec = PodSpec()


class Namespace(Resource):
    pass


class Node(Object[dict[str, Any]]):
    """Its labels carry the locality (`topology.kubernetes.io/region` and `zone`)."""


class ConfigMap(Resource):
    data: dict[str, str] = {}
    binary_data: dict[str, str] = {}


class Secret(Resource):
    data: dict[str, str] = {}
    """Base64."""
    type: str = "Opaque"


class ServiceAccount(Resource):
    pass


class EndpointAddress(Model):
    ip: str = ""
    hostname: str = ""
    node_name: str = ""


class EndpointPort(Model):
    port: int
    name: str = ""


class EndpointSubset(Model):
    addresses: tuple[EndpointAddress, ...] = ()
    not_ready_addresses: tuple[EndpointAddress, ...] = ()
    ports: tuple[EndpointPort, ...] = ()


class Endpoints(Resource):
    subsets: tuple[EndpointSubset, ...] = ()
