"""The one list of Istio's kinds: CRDs, watches, admission and names in the CLI all derive from it.

Beside them stand Kubernetes' own kinds that the mesh serves: the API server has those already, and checks them.
"""

from __future__ import annotations

from typing import Any

from mizzen.api import authorization, ingress, mesh_shape, networking, peer_authentication, telemetry
from mizzen.api.base import Model, Object


class Column(Model):
    """An extra column of `kubectl get`."""

    name: str
    path: str
    type: str = "string"
    description: str = ""


AGE = Column(
    name="Age",
    path=".metadata.creationTimestamp",
    type="date",
    description="When this object was created, in the server's time.",
)


class Kind(Model):
    """One kind of resource. `versions` are served with one schema; the first is the one that is stored."""

    group: str
    kind: str
    plural: str
    struct: type[Object[Any]]
    versions: tuple[str, ...] = ("v1", "v1beta1", "v1alpha3")
    singular: str
    short_names: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    spec_required: bool = False

    @property
    def categories(self) -> tuple[str, ...]:
        return "istio-io", f"{self.group.partition('.')[0]}-istio-io"

    @property
    def storage_version(self) -> str:
        return self.versions[0]


NETWORKING, SECURITY = "networking.istio.io", "security.istio.io"
TELEMETRY, EXTENSIONS = "telemetry.istio.io", "extensions.istio.io"


def _kind(group: str, struct: type[Object[Any]], plural: str, *columns: Column, **more: Any) -> Kind:
    name = struct.__name__
    return Kind(group=group, kind=name, plural=plural, singular=name.lower(), struct=struct, columns=columns, **more)


def _column(name: str, path: str, description: str) -> Column:
    return Column(name=name, path=path, description=description)


_HOST = _column("Host", ".spec.host", "The host whose callers this rule concerns.")
_HOSTS = _column("Hosts", ".spec.hosts", "The hosts this is about.")
_SECURITY_VERSIONS = ("v1", "v1beta1")

KINDS: tuple[Kind, ...] = (
    _kind(NETWORKING, networking.Gateway, "gateways", short_names=("gw",)),
    _kind(
        NETWORKING,
        networking.VirtualService,
        "virtualservices",
        _column("Gateways", ".spec.gateways", "The gateways it holds for; none means all sidecars."),
        _HOSTS,
        AGE,
        short_names=("vs",),
    ),
    _kind(NETWORKING, networking.DestinationRule, "destinationrules", _HOST, AGE, short_names=("dr",)),
    _kind(
        NETWORKING,
        mesh_shape.ServiceEntry,
        "serviceentries",
        _HOSTS,
        _column("Location", ".spec.location", "Inside or outside the mesh."),
        _column("Resolution", ".spec.resolution", "How its addresses are found."),
        AGE,
        short_names=("se",),
        spec_required=True,
    ),
    _kind(NETWORKING, mesh_shape.Sidecar, "sidecars"),
    _kind(
        NETWORKING,
        mesh_shape.WorkloadEntry,
        "workloadentries",
        AGE,
        _column("Address", ".spec.address", "The address of the workload."),
        short_names=("we",),
        spec_required=True,
    ),
    _kind(NETWORKING, mesh_shape.WorkloadGroup, "workloadgroups", AGE, short_names=("wg",), spec_required=True),
    _kind(NETWORKING, mesh_shape.EnvoyFilter, "envoyfilters", versions=("v1alpha3",)),
    _kind(NETWORKING, mesh_shape.ProxyConfig, "proxyconfigs", versions=("v1beta1",)),
    _kind(
        SECURITY,
        peer_authentication.PeerAuthentication,
        "peerauthentications",
        _column("Mode", ".spec.mtls.mode", "The mTLS mode asked for."),
        AGE,
        versions=_SECURITY_VERSIONS,
        short_names=("pa",),
    ),
    _kind(
        SECURITY,
        authorization.RequestAuthentication,
        "requestauthentications",
        versions=_SECURITY_VERSIONS,
        short_names=("ra",),
    ),
    _kind(
        SECURITY,
        authorization.AuthorizationPolicy,
        "authorizationpolicies",
        _column("Action", ".spec.action", "What is done with the requests that match."),
        AGE,
        versions=_SECURITY_VERSIONS,
        short_names=("ap",),
    ),
    _kind(TELEMETRY, telemetry.Telemetry, "telemetries", AGE, versions=("v1alpha1", "v1"), short_names=("telemetry",)),
    _kind(EXTENSIONS, telemetry.WasmPlugin, "wasmplugins", AGE, versions=("v1alpha1",), spec_required=True),
    _kind(EXTENSIONS, telemetry.TrafficExtension, "trafficextensions", AGE, versions=("v1alpha1",), spec_required=True),
)

KUBERNETES_KINDS: tuple[Kind, ...] = (
    _kind("networking.k8s.io", ingress.Ingress, "ingresses", versions=("v1",), short_names=("ing",)),
    _kind("networking.k8s.io", ingress.IngressClass, "ingressclasses", versions=("v1",)),
)

_BY_NAME = {(kind.group, kind.kind): kind for kind in (*KINDS, *KUBERNETES_KINDS)}
GROUPS = frozenset(kind.group for kind in KINDS)


def kind_of(api_version: str, kind: str) -> Kind | None:
    """The kind of an object's `apiVersion` and `kind`; None when there is none, or not in that version."""
    group, _, version = api_version.rpartition("/")
    found = _BY_NAME.get((group, kind))
    return found if found is not None and version in found.versions else None
