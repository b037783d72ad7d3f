"""The labels by which an installation knows its own objects again."""

from __future__ import annotations

from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

COMPONENT = "operator.istio.io/component"
OWNING_RESOURCE = {"install.operator.istio.io/owning-resource": "unknown"}
"""Istio's word for an installation that no IstioOperator object in the cluster owns."""


def labelled(obj: JSON, component: str) -> JSON:
    """The object with the labels of one component: Base, Pilot, IngressGateways or EgressGateways."""
    metadata = obj["metadata"]
    own = {
        COMPONENT: component,
        **OWNING_RESOURCE,
        "install.operator.istio.io/owning-resource-namespace": "istio-system",
        "operator.istio.io/managed": "Reconcile",
        "istio.io/rev": "default",
        "release": "istio",
    }
    return {**obj, "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), **own}}}
