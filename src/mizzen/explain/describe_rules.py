"""What DestinationRules and VirtualServices mean for some Pods, in the words of `istioctl x describe`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mizzen.api.base import Model
from mizzen.api.networking import (
    DestinationRule,
    HTTPMatchRequest,
    HTTPRoute,
    L4MatchAttributes,
    PortTrafficPolicy,
    StringMatch,
    TCPRoute,
    TrafficPolicy,
    VirtualService,
)
from mizzen.scope.hosts import full_name

Labels = Mapping[str, str]


class PortPolicy(Model):
    port: int
    tls_mode: str = ""
    policies: tuple[str, ...] = ()


class RuleDescription(Model):
    """A DestinationRule."""

    name: str
    namespace: str
    host: str
    matching_subsets: tuple[str, ...] = ()
    other_subsets: tuple[str, ...] = ()
    traffic_policy: bool = False
    tls_mode: str = ""
    policies: tuple[str, ...] = ()
    """What else it sets: load balancer, connection pool, outlier detection."""
    ports: tuple[PortPolicy, ...] = ()


class RoutesDescription(Model):
    """A VirtualService, as far as it leads to the Pods. Facts and warnings are lines of text."""

    name: str
    namespace: str
    facts: tuple[str, ...] = ()
    elsewhere: int = 0
    """Routes that do not lead there."""
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Why routes do not lead there."""


def rule_description(rule: DestinationRule, pods: Iterable[Labels]) -> RuleDescription:
    every = list(pods)
    policy = rule.spec.traffic_policy
    fits = {one.name: any(one.labels.items() <= labels.items() for labels in every) for one in rule.spec.subsets}
    return RuleDescription(
        name=rule.name,
        namespace=rule.namespace,
        host=rule.spec.host,
        matching_subsets=tuple(name for name, fit in fits.items() if fit),
        other_subsets=tuple(name for name, fit in fits.items() if not fit),
        traffic_policy=policy is not None,
        tls_mode=_tls_mode(policy) if policy else "",
        policies=_policies(policy) if policy else (),
        ports=tuple(map(_port_policy, policy.port_level_settings)) if policy else (),
    )


def _port_policy(entry: PortTrafficPolicy) -> PortPolicy:
    number = entry.port.number if entry.port else 0
    return PortPolicy(port=number, tls_mode=_tls_mode(entry), policies=_policies(entry))


def _tls_mode(policy: TrafficPolicy | PortTrafficPolicy) -> str:
    return (policy.tls.mode or "DISABLE") if policy.tls else ""


def _policies(policy: TrafficPolicy | PortTrafficPolicy) -> tuple[str, ...]:
    given = {
        "load balancer": policy.load_balancer,
        "connection pool": policy.connection_pool,
        "outlier detection": policy.outlier_detection,
    }
    return tuple(name for name, value in given.items() if value is not None)


class _Found(NamedTuple):
    """What one route has to do with the Pods."""

    leads_there: bool
    facts: list[str]


def routes_description(service: VirtualService, host: str, rule: RuleDescription | None) -> RoutesDescription:
    """`host`: the whole name of the service that the Pods are behind."""
    spec = service.spec
    found = [_http(service, route, host, rule) for route in spec.http]
    found += [_tcp(service, route, host) for route in spec.tcp]
    there = [one for one in found if one.leads_there]
    facts = [fact for one in there for fact in one.facts]
    notes = [fact for one in found if not one.leads_there for fact in one.facts]
    checked = {"HTTP": len(spec.http), "TCP": len(spec.tcp)}
    if not there:
        warnings = [
            f"WARNING: No destinations match pod subsets (checked {count} {kind} routes)"
            for kind, count in checked.items()
            if count
        ]
        return RoutesDescription(
            name=service.name, namespace=service.namespace, warnings=tuple(warnings), notes=tuple(notes)
        )
    elsewhere = len(found) + len(spec.tls) - len(there)
    if not facts and not elsewhere:
        facts = [f"{count} {kind} route(s)" for kind, count in checked.items() if count]
    return RoutesDescription(
        name=service.name,
        namespace=service.namespace,
        facts=tuple(facts),
        elsewhere=elsewhere,
        notes=() if facts else tuple(notes),
    )


def _http(service: VirtualService, route: HTTPRoute, host: str, rule: RuleDescription | None) -> _Found:
    leads, facts, misses = False, [], []
    for share in route.route:
        wanted = share.destination
        if full_name(wanted.host, service.namespace).lower() != host:
            facts.append(_elsewhere(wanted.host, wanted.subset, share.weight))
        elif wanted.subset and (why := _unfit(wanted.subset, rule, route.match)):
            misses.append(why)
        else:
            leads = True
            subset = f' subset "{wanted.subset}"' if wanted.subset else ""
            facts += [f'Route to host "{wanted.host}"{subset} with weight {share.weight}%'] if share.weight else []
    if leads:
        conditions = [*([_fault(route)] if route.fault else []), *map(match_text, route.match)]
        facts += [", ".join(conditions)] if conditions else []
    return _Found(leads, facts if leads else [*facts, *misses])


def _elsewhere(host: str, subset: str, weight: int) -> str:
    return f"Route to {host} with invalid config" if subset else f'Route to host "{host}" with weight {weight}%'


def _unfit(subset: str, rule: RuleDescription | None, match: tuple[HTTPMatchRequest, ...]) -> str:
    """Why the Pods are not behind a subset; "" when they are."""
    if rule is None:
        return f"Warning: Route to subset {subset} but NO DESTINATION RULE defining subsets!"
    if subset in rule.matching_subsets:
        return ""
    if subset in rule.other_subsets:
        conditions = ", ".join(map(match_text, match)) or "everything"
        return f"Route to non-matching subset {subset} for ({conditions})"
    return f"Warning: Route to UNKNOWN subset {subset}; check DestinationRule {rule.name}.{rule.namespace}"


def _fault(route: HTTPRoute) -> str:
    fault = route.fault
    parts = []
    if fault and fault.delay:
        parts.append(f"delay {fault.delay.fixed_delay}")
    if fault and fault.abort:
        parts.append(f"abort {fault.abort.http_status or fault.abort.grpc_status}")
    return f"Fault injection {' and '.join(parts)}"


def match_text(match: HTTPMatchRequest) -> str:
    """`Match: /v1* when headers are end-user=jason`"""
    text = "Match: "
    if match.uri is not None:
        text += f"{_string(match.uri)}{' uncased' if match.ignore_uri_case else ''}"
    if match.headers:
        text += f" when headers are {'; '.join(f'{key}={_string(one)}' for key, one in sorted(match.headers.items()))}"
    return text.strip()


def _string(match: StringMatch) -> str:
    if match.prefix is not None:
        return f"{match.prefix}*"
    return match.exact if match.exact is not None else f"regex {match.regex}" if match.regex else "*"


def _tcp(service: VirtualService, route: TCPRoute, host: str) -> _Found:
    leads = any(full_name(one.destination.host, service.namespace).lower() == host for one in route.route)
    return _Found(leads, list(_connections(route.match)) if leads else [])


def _connections(matches: tuple[L4MatchAttributes, ...]) -> Iterator[str]:
    for match in matches:
        parts = [f"port {match.port}"] if match.port else []
        parts += [f"to {subnet}" for subnet in match.destination_subnets]
        if parts:
            yield f"Match: {', '.join(parts)}"
