"""Snapshots from YAML, as short as a test wants to write them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from mizzen.api.base import Resource
from mizzen.api.decode import convert
from mizzen.api.documents import load
from mizzen.scope.model import Host, OutboundScope, Rule
from mizzen.scope.snapshot import WATCHED, Snapshot

CASES = Path(__file__).parents[1] / "../shared/cases"
KINDS = {kind.__name__: kind for kind in WATCHED}


def objects(text: str, namespace: str = "default") -> list[Resource]:
    """The documents of kinds that a snapshot keeps; without a namespace they are in `namespace`."""
    found = []
    for document in load(text):
        value = document.value
        meta = {"namespace": namespace, **value.get("metadata", {})}
        if value["kind"] in KINDS:
            found.append(convert({"spec": {}, **value, "metadata": meta}, KINDS[value["kind"]]))
    return found


def world(text: str, namespace: str = "default") -> Snapshot:
    return Snapshot.of(objects(text, namespace))


MAY_LIST_SECRETS = """
---
kind: SecretReader
metadata: {name: default, namespace: istio-system}
allowed: true
"""
"""Pods of the gateway's namespace that name no service account."""


@cache
def cases(name: str) -> list[dict[str, Any]]:
    """Entries of a case file; one skipped parameter when the file is not at hand."""
    path = CASES / f"{name}.yaml"
    if not path.exists():
        skipped = pytest.mark.skip(reason=f"{path.name} is not at hand")
        return [pytest.param({}, marks=skipped)]  # type: ignore[list-item]
    with path.open() as file:
        return list(yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def table(test: str) -> list[dict[str, Any]]:
    """The rows of one of the small tables that are fully known."""
    found = cases("tables")
    if not isinstance(found[0], dict):
        return found
    rows = next(entry["rows"] for entry in found if entry["test"] == test)
    return [row for row in rows if "__unresolved" not in row]


def host(scope: OutboundScope, route: str, domain: str) -> Host:
    """The virtual host of a route table that a request for `domain` meets by its exact name."""
    found = next(one for one in scope.routes if one.name == route)
    return next(one for one in found.hosts if domain in one.domains)


def clusters(rules: tuple[Rule, ...]) -> list[str]:
    return [destination.cluster for rule in rules for destination in rule.destinations]
