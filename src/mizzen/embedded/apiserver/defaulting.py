"""The door to defaults: Kubernetes' own for built-in kinds, those of the CRD's schema for custom resources."""

from __future__ import annotations

import importlib

from mizzen.embedded.apiserver import schema_structural
from mizzen.embedded.apiserver.bodies import structural_schema
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.kube.api import JSON


def apply_defaults(kind: ResourceType, obj: JSON) -> None:
    """Writes into `obj` what it leaves out."""
    structural = structural_schema(kind)
    if structural is not None:
        obj.update(schema_structural.default(structural, obj))
        return
    try:
        module = importlib.import_module("mizzen.embedded.apiserver.defaults")
    except ModuleNotFoundError:
        return
    module.apply_defaults(kind, obj)
