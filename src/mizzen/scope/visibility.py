"""Who may see a resource: `exportTo` of the networking kinds, and the Service annotation of the same name."""

from __future__ import annotations

from collections.abc import Iterable

from mizzen.api.base import Model
from mizzen.api.core import Service

SERVICE_ANNOTATION = "networking.istio.io/exportTo"


class Audience(Model):
    """`everyone`, and the namespaces that were named (`.` already resolved)."""

    everyone: bool
    named: frozenset[str] = frozenset()

    def admits(self, namespace: str) -> bool:
        return self.everyone or namespace in self.named


def audience(export_to: Iterable[str], own_namespace: str, default: Iterable[str]) -> Audience:
    """`*` is everyone, `.` the resource's own namespace, `~` no one; nothing said means the mesh's default."""
    words = {text.strip() for text in export_to} - {""} or set(default)
    if "*" in words:
        return Audience(everyone=True)
    named = {own_namespace if text == "." else text for text in words - {"~"}}
    return Audience(everyone=False, named=frozenset(named))


def service_audience(service: Service, default: tuple[str, ...]) -> Audience:
    text = service.metadata.annotations.get(SERVICE_ANNOTATION, "")
    return audience(text.split(","), service.metadata.namespace, default)
