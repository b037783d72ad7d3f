"""Who asks, reduced to what can change the answer, so that as many proxies as possible share it."""

from __future__ import annotations

from collections.abc import Mapping

from mizzen.api.base import Model
from mizzen.api.core import DEFAULT_ACCOUNT, Pod
from mizzen.scope.destination_rules import rulebook
from mizzen.scope.drains import asked_of
from mizzen.scope.routes import mesh_routes
from mizzen.scope.snapshot import Snapshot


class Proxy(Model):
    """A proxy as its node metadata describes it."""

    namespace: str
    name: str = ""
    """The Pod's."""
    labels: Mapping[str, str] = {}
    address: str = ""
    ipv6: bool = False
    """Whether it has an IPv6 address beside or instead of an IPv4 one."""
    foreign_certificates: bool = False
    """Whether somebody else than istiod gives it certificates, and so perhaps those who call it."""


class OutboundView(Model, cache_hash=True):
    """Who calls, reduced to what can change the answer."""

    namespace: str
    labels: tuple[tuple[str, str], ...] = ()
    """Only the labels that some rule asks about (sourceLabels, DestinationRule workloadSelector); sorted."""
    account: str = ""
    """The Pod's service account, where certificates out of Secrets are at stake."""
    ipv6: bool = False


class InboundView(Model, cache_hash=True):
    namespace: str
    labels: tuple[tuple[str, str], ...]
    """All labels of the Pod: they say which Services select it."""
    container_ports: tuple[tuple[str, int], ...] = ()
    """Named container ports, for targetPorts given by name."""
    drained: str = ""
    """What the Pod's annotation says (`drains.asked_of`)."""
    ipv6: bool = False
    foreign_certificates: bool = False


class GatewayView(Model, cache_hash=True):
    namespace: str
    labels: tuple[tuple[str, str], ...]
    account: str = DEFAULT_ACCOUNT
    """The service account of the proxy's Pod."""
    container_ports: tuple[tuple[str, int], ...] = ()
    """Named container ports, for targetPorts given by name."""
    drained: str = ""
    ipv6: bool = False


def outbound_view(snapshot: Snapshot, proxy: Proxy) -> OutboundView:
    """Keeps only the labels that some `sourceLabels` or DestinationRule `workloadSelector` asks about."""
    rules = rulebook(snapshot).of(proxy.namespace)
    asked = mesh_routes(snapshot, proxy.namespace).labels | (rules.labels if rules else frozenset())
    kept = sorted((key, value) for key, value in proxy.labels.items() if key in asked)
    account = _account(snapshot.get(Pod, proxy.namespace, proxy.name)) if rules and rules.asks_accounts else ""
    return OutboundView(namespace=proxy.namespace, labels=tuple(kept), account=account, ipv6=proxy.ipv6)


def _account(pod: Pod | None) -> str:
    return pod.account if pod else DEFAULT_ACCOUNT


def inbound_view(snapshot: Snapshot, proxy: Proxy) -> InboundView:
    pod = snapshot.get(Pod, proxy.namespace, proxy.name)
    return InboundView(
        namespace=proxy.namespace,
        labels=tuple(sorted(proxy.labels.items())),
        container_ports=container_ports(pod),
        drained=asked_of(pod),
        ipv6=proxy.ipv6,
        foreign_certificates=proxy.foreign_certificates,
    )


def gateway_view(snapshot: Snapshot, proxy: Proxy) -> GatewayView:
    pod = snapshot.get(Pod, proxy.namespace, proxy.name)
    return GatewayView(
        namespace=proxy.namespace,
        account=_account(pod),
        labels=tuple(sorted(proxy.labels.items())),
        container_ports=container_ports(pod),
        drained=asked_of(pod),
        ipv6=proxy.ipv6,
    )


def container_ports(pod: Pod | None) -> tuple[tuple[str, int], ...]:
    """Container ports by name, sorted; of a name that stands twice the first counts, as for Kubernetes."""
    found: dict[str, int] = {}
    for container in pod.spec.containers if pod else ():
        for port in container.ports:
            if port.name:
                found.setdefault(port.name, port.container_port)
    return tuple(sorted(found.items()))
