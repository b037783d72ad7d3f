"""Annotations that no user's object may carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mizzen.api.legality.finding import Finding, Findings
from mizzen.api.paths import join

DRY_RUN = "istio.io/dry-run"
_REFUSED = (
    "internal.istio.io/webhook-always-reject",
    "internal.istio.io/parents",
    "internal.istio.io/parent-namespace",
)
_BOOLEANS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})


def metadata(document: Mapping[str, Any], kind: str) -> Findings:
    annotations = (document.get("metadata") or {}).get("annotations") or {}
    for name in _REFUSED:
        if name in annotations:
            yield Finding(join("metadata.annotations", name), f"{name} may not be set by users; remove it")
    if DRY_RUN in annotations:
        yield from _dry_run(str(annotations[DRY_RUN]), document, kind)


def _dry_run(value: str, document: Mapping[str, Any], kind: str) -> Findings:
    path = join("metadata.annotations", DRY_RUN)
    action = (document.get("spec") or {}).get("action", "ALLOW")
    if kind != "AuthorizationPolicy" or action not in ("ALLOW", "DENY"):
        yield Finding(path, f"{DRY_RUN} works for AuthorizationPolicies with action ALLOW or DENY alone; remove it")
    elif value not in _BOOLEANS:
        yield Finding(path, f"{value!r} is neither true nor false")
