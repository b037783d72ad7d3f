"""Findings about a whole mesh: snapshot in, problems out; pure. Codes are those of Istio's analyzers."""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.analysis.references import conflicts, dangling_references, of_object
from mizzen.api.base import Problem
from mizzen.api.networking import DestinationRule, VirtualService
from mizzen.scope.snapshot import Snapshot

__all__ = ["dangling_references", "findings"]


def findings(snapshot: Snapshot) -> Iterator[Problem]:
    """Everything that can be found without asking a proxy."""
    for kind in (VirtualService, DestinationRule):
        for obj in snapshot.table(kind):
            yield from of_object(snapshot, obj)
    yield from conflicts(snapshot)
