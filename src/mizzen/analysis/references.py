"""What users refer to and is not there: legal, as a rule may come before what it names; told, as it may be a typo.

Codes and meaning: https://istio.io/latest/docs/reference/config/analysis/ist0101/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from mizzen.api.base import Problem
from mizzen.api.decode import Undecodable, convert
from mizzen.api.networking import DestinationRule, Gateway, VirtualService
from mizzen.scope.destination_rules import rulebook
from mizzen.scope.hosts import full_name, is_wildcard, matches
from mizzen.scope.problems import problem
from mizzen.scope.services import catalog
from mizzen.scope.snapshot import Snapshot

JSON: TypeAlias = dict[str, Any]

NOT_FOUND = "IST0101"
_KINDS: dict[str, type[VirtualService] | type[DestinationRule]] = {
    "VirtualService": VirtualService,
    "DestinationRule": DestinationRule,
}


def dangling_references(snapshot: Snapshot, document: JSON) -> Iterator[Problem]:
    """Of one document that may not be stored yet. Other kinds, and what cannot be read, give nothing."""
    kind = _KINDS.get(document.get("kind", ""))
    if kind is None:
        return
    try:
        yield from of_object(snapshot, convert(document, kind))
    except Undecodable:
        return


def of_object(snapshot: Snapshot, obj: Any) -> Iterator[Problem]:
    if isinstance(obj, VirtualService):
        yield from _of_virtual_service(snapshot, obj)
    elif isinstance(obj, DestinationRule):
        yield from _of_destination_rule(snapshot, obj)


def _of_virtual_service(snapshot: Snapshot, service: VirtualService) -> Iterator[Problem]:
    for index, name in enumerate(service.spec.gateways):
        namespace, _, gateway = name.rpartition("/")
        if name != "mesh" and snapshot.get(Gateway, namespace or service.namespace, gateway) is None:
            message = f"Gateway {name!r} does not exist; the routes come into force there once it does."
            yield problem(service, NOT_FOUND, f"spec.gateways[{index}]", message)
    for path, host, subset in _destinations(service):
        full = full_name(host, service.namespace)
        if not _exists(snapshot, full):
            message = f"There is no service for host {host!r} ({full}); requests are answered 503 until there is."
            yield problem(service, NOT_FOUND, f"{path}.host", message)
        elif subset and subset not in _subsets(snapshot, full):
            message = (
                f"No DestinationRule for {full} defines subset {subset!r}; requests are answered 503 until one does."
            )
            yield problem(service, NOT_FOUND, f"{path}.subset", message)


def _destinations(service: VirtualService) -> Iterator[tuple[str, str, str]]:
    """Path, host and subset of everything that is routed or mirrored to."""
    for kind in ("http", "tls", "tcp"):
        for index, rule in enumerate(getattr(service.spec, kind)):
            where = f"spec.{kind}[{index}]"
            for number, route in enumerate(rule.route):
                destination = route.destination
                yield f"{where}.route[{number}].destination", destination.host, destination.subset
            mirror = getattr(rule, "mirror", None)
            if mirror is not None:
                yield f"{where}.mirror", mirror.host, mirror.subset


def _of_destination_rule(snapshot: Snapshot, rule: DestinationRule) -> Iterator[Problem]:
    full = full_name(rule.spec.host, rule.namespace)
    if not _exists(snapshot, full):
        message = f"There is no service for host {rule.spec.host!r} ({full}); the rule waits for it."
        yield problem(rule, NOT_FOUND, "spec.host", message)


def _exists(snapshot: Snapshot, host: str) -> bool:
    known = catalog(snapshot).by_host
    if is_wildcard(host):
        return any(matches(host, one) for one in known)
    return host.lower() in known


def _subsets(snapshot: Snapshot, host: str) -> frozenset[str]:
    """All subsets that any DestinationRule of the mesh defines for the host."""
    return frozenset(
        subset.name
        for rule in snapshot.table(DestinationRule)
        if matches(full_name(rule.spec.host, rule.namespace).lower(), host)
        for subset in rule.spec.subsets
    )


def conflicts(snapshot: Snapshot) -> Iterator[Problem]:
    """DestinationRules whose policy or subset another one's has pushed aside."""
    book = rulebook(snapshot)
    for namespace in {rule.namespace for rule in snapshot.table(DestinationRule)}:
        rules = book.of(namespace)
        for merged in rules.rules if rules else ():
            yield from merged.problems
