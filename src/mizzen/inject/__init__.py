"""Pod in, Pod with a sidecar out; pure."""

from mizzen.inject.annotations import InvalidAnnotation
from mizzen.inject.documents import WORKLOAD_KINDS, inject_document
from mizzen.inject.patch import difference
from mizzen.inject.pod import inject
from mizzen.inject.selection import Decision, decision, entries, selected
from mizzen.inject.settings import Settings, read_settings

__all__ = [
    "WORKLOAD_KINDS",
    "Decision",
    "InvalidAnnotation",
    "Settings",
    "decision",
    "difference",
    "entries",
    "inject",
    "inject_document",
    "read_settings",
    "selected",
]
