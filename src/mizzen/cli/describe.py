"""`mizzen x describe pod|service`: what concerns one of them, in Istio's layout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mizzen.cli import exits, render
from mizzen.cli.groups import Group
from mizzen.cli.options import Where, where, with_api

if TYPE_CHECKING:
    from mizzen.explain.describe import (
        Description,
        ExposedDescription,
        PeerAuthenticationDescription,
        PodDescription,
        PortDescription,
        ServiceDescription,
    )
    from mizzen.explain.describe_rules import PortPolicy, RoutesDescription, RuleDescription

RULER = "--------------------"
_UNMESHED = click.option("--ignoreUnmeshed", "unmeshed", is_flag=True, help="Do not warn of Pods without a sidecar.")


@click.group(cls=Group)
def command() -> None:
    """Ports, rules, routes, policies and mTLS of a Pod or a Service."""


@command.command("pod")
@click.argument("pod", metavar="POD[.NAMESPACE]")
@_UNMESHED
@render.output
@where
def pod(pod: str, unmeshed: bool, form: str, where: Where) -> None:
    """What concerns a Pod: a Pod's name, or TYPE/NAME for the first ready Pod of a workload."""
    from mizzen.explain.authorization import pod_or_suggestion
    from mizzen.explain.describing import describe_pod
    from mizzen.kube.http import HttpApi

    own = where.namespace or "default"

    async def ask(api: HttpApi) -> Description:
        namespace, name = await pod_or_suggestion(api, pod, own)
        return await describe_pod(api, name, namespace, system=where.istio_namespace, unmeshed_is_fine=unmeshed)

    show(form, with_api(where, ask), own)


@command.command("service")
@click.argument("service", metavar="SERVICE[.NAMESPACE]")
@_UNMESHED
@render.output
@where
def service(service: str, unmeshed: bool, form: str, where: Where) -> None:
    """What concerns a Service, as the proxy of its first Pod has it."""
    from mizzen.explain.describing import NotOfTheMesh, describe_service
    from mizzen.kube.http import HttpApi

    name, _, namespace = service.removeprefix("service/").removeprefix("svc/").partition(".")
    own = where.namespace or "default"

    async def ask(api: HttpApi) -> Description:
        return await describe_service(api, name, namespace or own, system=where.istio_namespace)

    try:
        show(form, with_api(where, ask), own)
    except NotOfTheMesh as error:
        hint = "" if unmeshed else "`mizzen kube-inject`, or the label istio-injection=enabled and a restart, adds one"
        raise exits.Failure(str(error), hint if "Istio" in str(error) else "") from error


command.alternatives = {"po": "pod", "svc": "service"}


def show(form: str, found: Description, namespace: str) -> None:
    """`namespace`: the one that names are shown without."""
    if form == "table":
        click.echo("\n".join(Lines(namespace).description(found)))
    else:
        render.show(form, found, (), ())


class Lines:
    """A description as text."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace

    def name(self, name: str, namespace: str) -> str:
        return name if namespace == self._namespace else f"{name}.{namespace}"

    def description(self, found: Description) -> Iterator[str]:
        if found.pod is not None:
            yield from self.pod(found.pod)
            if not found.services:
                yield f"Warning: No Kubernetes Services select pod {found.pod.name}"
            yield RULER
        for index, one in enumerate(found.services):
            yield from [RULER] if index else []
            yield from self.service(one)
        if found.peer_authentication is not None:
            yield RULER
            yield from self.peer_authentication(found.peer_authentication)
        if not found.gateways_asked:
            yield "Skipping Gateway information (no ingress gateway pods)"
        for way in found.exposed:
            yield RULER
            yield from self.exposed(way)

    def pod(self, found: PodDescription) -> Iterator[str]:
        yield f"Pod: {self.name(found.name, found.namespace)}"
        yield f"   Pod Revision: {found.revision}"
        yield f"   Pod Ports: {', '.join(found.ports)}" if found.ports else "   Pod does not expose ports"
        yield from found.warnings

    def service(self, found: ServiceDescription) -> Iterator[str]:
        yield f"Service: {self.name(found.name, found.namespace)}"
        for port in found.ports:
            to = f"targets pod port {port.target}" if port.target else "targets a port that the pod does not name"
            yield f"   Port: {port.name} {port.port}/{port.protocol} {to}"
        several = len(found.ports) > 1
        for port in found.ports:
            yield from [f"{port.port}:"] if several else []
            yield from self.port(port, "   " if several else "", f"{port.port} " if several else "")

    def port(self, found: PortDescription, indent: str, prefix: str) -> Iterator[str]:
        if found.destination_rule is not None:
            yield from (indent + line for line in self.rule(found.destination_rule))
        if found.virtual_service is not None:
            yield from (indent + line for line in self.routes(found.virtual_service))
        yield from found.warnings
        if found.rbac_policies:
            yield f"{prefix}RBAC policies: {', '.join(found.rbac_policies)}"

    def rule(self, found: RuleDescription) -> Iterator[str]:
        yield f'DestinationRule: {self.name(found.name, found.namespace)} for "{found.host}"'
        others = ",".join(found.other_subsets)
        if found.matching_subsets or found.other_subsets:
            if not found.matching_subsets:
                yield f"   WARNING POD DOES NOT MATCH ANY SUBSETS.  (Non matching subsets {others})"
            yield f"   Matching subsets: {','.join(found.matching_subsets)}".rstrip()
            yield from [f"      (Non-matching subsets {others})"] if others else []
        if not found.traffic_policy:
            yield "   No Traffic Policy"
        yield from [f"   Traffic Policy TLS Mode: {found.tls_mode}"] if found.tls_mode else []
        yield from [f"   Policies: {'/'.join(found.policies)}"] if found.policies else []
        yield from ["   Port Level Settings:"] if found.ports else []
        for port in found.ports:
            yield from self.port_policy(port)

    def port_policy(self, found: PortPolicy) -> Iterator[str]:
        yield f"    {found.port}:"
        yield from [f"      TLS Mode: {found.tls_mode}"] if found.tls_mode else []
        yield from [f"      Policies: {'/'.join(found.policies)}"] if found.policies else []

    def routes(self, found: RoutesDescription) -> Iterator[str]:
        yield f"VirtualService: {self.name(found.name, found.namespace)}"
        yield from (f"   {line}" for line in (*found.facts, *found.warnings))
        if found.elsewhere:
            yield f"   {found.elsewhere} additional destination(s) that will not reach this pod"
        yield from (f"      {note}" for note in found.notes)

    def peer_authentication(self, found: PeerAuthenticationDescription) -> Iterator[str]:
        yield "Effective PeerAuthentication:"
        yield f"   Workload mTLS mode: {found.mode}"
        yield from ["   Port Level mTLS mode:"] if found.ports else []
        yield from (f"      {port}: {mode}" for port, mode in found.ports.items())
        if found.applied:
            yield "Applied PeerAuthentication:"
            yield f"   {', '.join(found.applied)}"

    def exposed(self, found: ExposedDescription) -> Iterator[str]:
        yield from (f"Exposed on Ingress Gateway {url}" for url in found.urls)
        yield from self.routes(found.virtual_service)
