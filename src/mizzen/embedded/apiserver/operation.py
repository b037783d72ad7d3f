"""One write on its way through admission."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.wire import LOOPBACK, User
from mizzen.kube.api import JSON, Preconditions

Verb = Literal["CREATE", "UPDATE", "DELETE", "CONNECT"]


@dataclass(slots=True)
class Call:
    """Who writes and how. `warnings` collects what the client is told besides the answer."""

    user: User = LOOPBACK
    manager: str = "mizzen"
    dry_run: bool = False
    force: bool = False
    applying: bool = False
    """Server-side apply: the merge itself has written who owns what."""
    validation: Literal["Strict", "Warn", "Ignore"] = "Ignore"
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    grace_seconds: int | None = None
    propagation: str | None = None
    preconditions: Preconditions = field(default_factory=Preconditions)


@dataclass(slots=True)
class Operation:
    """What admission sees, and may change: `obj` (None for DELETE)."""

    verb: Verb
    kind: ResourceType
    namespace: str
    name: str
    obj: JSON | None
    old: JSON | None
    call: Call
    subresource: str = ""
    options: JSON | None = None

    def request(self) -> JSON:
        """What webhooks and policies are told of it, besides the objects: an AdmissionRequest."""
        resource = self.kind.resource
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        named = {"group": resource.group, "version": resource.version, "resource": resource.plural}
        return {
            "kind": kind,
            "resource": named,
            "requestKind": kind,
            "requestResource": named,
            "name": self.name,
            "operation": self.verb,
            "userInfo": self.call.user.document(),
            "dryRun": self.call.dry_run,
            "options": self.options,
            **({"namespace": self.namespace} if self.namespace else {}),
            **({"subResource": self.subresource, "requestSubResource": self.subresource} if self.subresource else {}),
        }
