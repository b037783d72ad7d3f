"""VirtualService: hosts, gateways and the three kinds of rules."""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.api.legality import http_route, unreachable
from mizzen.api.legality.destinations import destination, total_weight
from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.legality.gateway_names import gateway_names
from mizzen.api.legality.names import (
    export_to,
    host_problem,
    is_address,
    is_claim,
    labels,
    port,
    sni_problem,
    subnet_problem,
)
from mizzen.api.networking import (
    L4MatchAttributes,
    RouteDestination,
    TCPRoute,
    TLSMatchAttributes,
    TLSRoute,
    VirtualService,
    VirtualServiceSpec,
)

MESH = "mesh"


def virtual_service(obj: VirtualService) -> Findings:
    spec = obj.spec
    gateways_only = bool(spec.gateways) and MESH not in spec.gateways
    if not spec.hosts:
        yield from _delegate(spec)
    yield from gateway_names("spec.gateways", spec.gateways)
    if not gateways_only:
        yield from _claims(spec)
    yield from _hosts(spec, gateways_only)
    if not (spec.http or spec.tls or spec.tcp):
        yield Finding("spec", "a VirtualService needs http, tls or tcp rules")
    for index, rule in enumerate(spec.http):
        yield from http_route.http_route(f"spec.http[{index}]", rule, is_delegate=not spec.hosts)
    for index, tls in enumerate(spec.tls):
        yield from _tls_route(f"spec.tls[{index}]", tls, spec, gateways_only)
    for index, tcp in enumerate(spec.tcp):
        yield from _tcp_route(f"spec.tcp[{index}]", tcp)
    yield from export_to("spec.exportTo", spec.export_to, obj.namespace)
    yield from unreachable.rules(spec)


def _delegate(spec: VirtualServiceSpec) -> Findings:
    """Without hosts it can only be what another VirtualService delegates to."""
    for name, given in (("gateways", spec.gateways), ("tls", spec.tls), ("tcp", spec.tcp)):
        if given:
            yield Finding(f"spec.{name}", f"without hosts this is a delegate, which cannot have {name}; add hosts")


def _claims(spec: VirtualServiceSpec) -> Findings:
    for index, rule in enumerate(spec.http):
        for number, match in enumerate(rule.match):
            for kind, headers in (("headers", match.headers), ("withoutHeaders", match.without_headers)):
                if any(is_claim(name) for name in headers):
                    yield Finding(
                        f"spec.http[{index}].match[{number}].{kind}",
                        "routing by JWT claims works at gateways alone: name gateways, and not `mesh`",
                    )


def _hosts(spec: VirtualServiceSpec, gateways_only: bool) -> Findings:
    uses_sni = any(match.sni_hosts for rule in spec.tls for match in rule.match)
    check = sni_problem if gateways_only and uses_sni else host_problem
    problems = [(index, check(host)) for index, host in enumerate(spec.hosts) if not is_address(host)]
    broken = [(index, problem) for index, problem in problems if problem]
    if not gateways_only:
        broken += [
            (index, "`*` is not allowed for sidecars; name hosts, or gateways that it shall hold for")
            for index, host in enumerate(spec.hosts)
            if host == "*"
        ]
    yield from (Finding(f"spec.hosts[{index}]", problem) for index, problem in broken)
    if not broken:
        yield from _overlapping_hosts(spec.hosts)


def _overlapping_hosts(hosts: tuple[str, ...]) -> Findings:
    for index, host in enumerate(hosts):
        other = next((earlier for earlier in hosts[:index] if _covers(earlier, host) or _covers(host, earlier)), None)
        if other is not None:
            yield Finding(f"spec.hosts[{index}]", f"duplicate hosts in virtual service: {other} & {host} overlap")


def _covers(wide: str, narrow: str) -> bool:
    if wide.startswith("*"):
        return narrow.removeprefix("*").endswith(wide[1:])
    return wide == narrow


def _tls_route(path: str, rule: TLSRoute, spec: VirtualServiceSpec, gateways_only: bool) -> Findings:
    if not rule.match:
        yield Finding(f"{path}.match", "a tls rule needs at least one match, with sniHosts")
    for index, match in enumerate(rule.match):
        yield from _tls_match(f"{path}.match[{index}]", match, spec, gateways_only)
    yield from _route(path, rule.route, "tls")


def _tls_match(path: str, match: TLSMatchAttributes, spec: VirtualServiceSpec, gateways_only: bool) -> Findings:
    if not match.sni_hosts:
        yield Finding(f"{path}.sniHosts", "a tls match needs at least one SNI host")
    for index, host in enumerate(match.sni_hosts):
        yield from _sni_host(f"{path}.sniHosts[{index}]", host, spec.hosts, gateways_only)
    yield from _connection_match(path, match)


def _sni_host(path: str, host: str, hosts: Iterable[str], gateways_only: bool) -> Findings:
    if is_address(host):
        yield warning(path, f"{host!r} is an IP address, which SNI does not allow and most clients do not send")
    elif problem := (sni_problem(host) if gateways_only else host_problem(host)):
        yield Finding(path, problem)
    elif not any(_covers(wide, host) and (wide.startswith("*") or wide == host) for wide in hosts):
        yield Finding(path, f"SNI host {host!r} is under none of the hosts of this VirtualService: {', '.join(hosts)}")


def _tcp_route(path: str, rule: TCPRoute) -> Findings:
    for index, match in enumerate(rule.match):
        yield from _connection_match(f"{path}.match[{index}]", match)
    yield from _route(path, rule.route, "tcp")


def _connection_match(path: str, match: TLSMatchAttributes | L4MatchAttributes) -> Findings:
    for index, subnet in enumerate(match.destination_subnets):
        if problem := subnet_problem(subnet):
            yield Finding(f"{path}.destinationSubnets[{index}]", problem)
    if match.port:
        yield from port(f"{path}.port", match.port)
    yield from labels(f"{path}.sourceLabels", match.source_labels)
    yield from gateway_names(f"{path}.gateways", match.gateways)


def _route(path: str, routes: tuple[RouteDestination, ...], kind: str) -> Findings:
    if not routes:
        yield Finding(f"{path}.route", f"a {kind} rule needs a route")
    for index, route in enumerate(routes):
        yield from destination(f"{path}.route[{index}].destination", route.destination)
    yield from total_weight(f"{path}.route", [route.weight for route in routes])
