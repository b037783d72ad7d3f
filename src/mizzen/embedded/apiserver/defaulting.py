"""The door to defaults: Kubernetes' own for built-in kinds, those of the CRD's schema for custom resources."""

from __future__ import annotations

from mizzen.embedded.apiserver import defaults
from mizzen.embedded.apiserver.bodies import structural_schema
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.kube.api import JSON


def apply_defaults(kind: ResourceType, obj: JSON) -> None:
    """Writes into `obj` what it leaves out."""
    defaults.default(kind.resource, obj, structural_schema(kind))
