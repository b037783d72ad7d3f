"""Is this object legal, and does every part of it take effect? For the webhook and for `mizzen validate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mizzen.api.base import Object, Problem
from mizzen.api.decode import Undecodable, convert, without_nulls
from mizzen.api.ignored import not_honoured
from mizzen.api.legality.authorization import authorization_policy
from mizzen.api.legality.destination_rule import destination_rule
from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.legality.gateway import gateway
from mizzen.api.legality.generic import everywhere
from mizzen.api.legality.ingress import ingress
from mizzen.api.legality.metadata import metadata
from mizzen.api.legality.peer_authentication import peer_authentication
from mizzen.api.legality.request_authentication import request_authentication
from mizzen.api.legality.virtual_service import virtual_service
from mizzen.api.registry import GROUPS, Kind, kind_of
from mizzen.api.unknown import unknown_fields

UNKNOWN_FIELD, NOT_HONOURED = "MZ0101", "MZ0102"

_API_SERVERS_OWN = {
    f"metadata.{name}"
    for name in (
        "generateName",
        "selfLink",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "managedFields",
    )
}
"""Parts of ObjectMeta that nobody here reads: the API server checks them."""

_RULES: Mapping[str, Callable[[Any], Findings]] = {
    "Gateway": gateway,
    "Ingress": ingress,
    "VirtualService": virtual_service,
    "DestinationRule": destination_rule,
    "AuthorizationPolicy": authorization_policy,
    "RequestAuthentication": request_authentication,
    "PeerAuthentication": peer_authentication,
}


def validate(document: Mapping[str, Any]) -> tuple[Problem, ...]:
    """All findings about one object of a kind that the mesh serves; () for others. Errors mean: do not accept it."""
    return _about(document, (*_legality(document), *_effect(document)))


def legality(document: Mapping[str, Any]) -> tuple[Problem, ...]:
    """What Istio itself would say: the same without what is merely not honoured here yet."""
    return _about(document, _legality(document))


def _kind(document: Mapping[str, Any]) -> Kind | None:
    return kind_of(str(document.get("apiVersion", "")), str(document.get("kind", "")))


def _legality(document: Mapping[str, Any]) -> Findings:
    kind = _kind(document)
    if kind is None:
        yield from _not_a_kind(document)
        return
    unknown = [found for found in unknown_fields(document, kind.struct) if found.path not in _API_SERVERS_OWN]
    yield from (Finding(found.path, found.message, code=UNKNOWN_FIELD) for found in unknown)
    yield from metadata(document, kind.kind)
    try:
        obj = convert(_complete(document, kind), kind.struct)
    except Undecodable as error:
        yield Finding(error.path, error.reason)
        return
    yield from _rules(obj, kind)


def _complete(document: Mapping[str, Any], kind: Kind) -> Any:
    """Nulls count as absent; a missing spec as an empty one, where the kind allows that."""
    complete = without_nulls(document)
    return complete if kind.spec_required else {"spec": {}, **complete}


def _rules(obj: Object[Any], kind: Kind) -> Findings:
    rules = _RULES.get(kind.kind)
    if rules is not None:
        yield from everywhere("spec", obj.spec)
        yield from rules(obj)


def _not_a_kind(document: Mapping[str, Any]) -> Findings:
    api_version, kind = str(document.get("apiVersion", "")), str(document.get("kind", ""))
    if api_version.rpartition("/")[0] in GROUPS:
        yield Finding("kind", f"there is no kind {kind or '(none)'} in {api_version}")


def _effect(document: Mapping[str, Any]) -> Findings:
    kind = _kind(document)
    for path, entry in not_honoured(kind.kind, document) if kind else ():
        what = "this field" if path else f"the kind {entry.kind}"
        message = f"{what} is legal in Istio, but has no effect in this version: {entry.reason}"
        yield (
            Finding(path, message, code=NOT_HONOURED)
            if entry.verdict == "refuse"
            else warning(path, message, NOT_HONOURED)
        )


def _about(document: Mapping[str, Any], findings: Findings | tuple[Finding, ...]) -> tuple[Problem, ...]:
    meta = document.get("metadata") or {}
    return tuple(
        Problem(
            code=finding.code,
            level=finding.level,
            kind=str(document.get("kind", "")),
            namespace=str(meta.get("namespace", "")),
            name=str(meta.get("name", "")),
            path=finding.path,
            message=finding.message,
        )
        for finding in findings
    )
