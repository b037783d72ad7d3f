"""Findings about a whole mesh: snapshot in, problems out; pure. Codes are those of Istio's analyzers."""

from __future__ import annotations

from typing import Any

from mizzen.api.base import Problem
from mizzen.api.decode import Undecodable, convert
from mizzen.api.networking import DestinationRule
from mizzen.api.registry import kind_of
from mizzen.scope.destination_rules import beside_others
from mizzen.scope.references import dangling, findings
from mizzen.scope.snapshot import Snapshot

__all__ = ["dangling_references", "findings"]


def dangling_references(snapshot: Snapshot, document: dict[str, Any]) -> tuple[Problem, ...]:
    """What a document that may not be stored yet refers to and is not there, and what others have before it.

    () for other kinds and unreadable ones.
    """
    kind = kind_of(str(document.get("apiVersion", "")), str(document.get("kind", "")))
    if kind is None:
        return ()
    try:
        obj = convert(document, kind.struct)
    except Undecodable:
        return ()  # validation has said so
    dropped = beside_others(snapshot, obj) if isinstance(obj, DestinationRule) else ()
    return (*dangling(snapshot, obj), *dropped)
