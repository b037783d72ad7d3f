"""When a workload lets go of connections that began under older rules.

An edit of a policy holds for what begins after it, and ends nothing (docs/decisions/0005-policies-in-slots.md). Two
annotations say that it shall: of a Pod, whose proxy drains whenever the text is another; and of a policy, whose edits
then drain every workload that it applies to.
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.api.authorization import TRUE, AuthorizationPolicy, RequestAuthentication
from mizzen.api.core import Pod
from mizzen.scope.model import Guards

POD_ANNOTATION = "mizzen.io/drained"
POLICY_ANNOTATION = "mizzen.io/drain"


def asked_of(pod: Pod | None) -> str:
    """What a Pod's annotation says; "" without one."""
    return pod.metadata.annotations.get(POD_ANNOTATION, "") if pod else ""


def drain_mark(asked: str, guards: Guards) -> str:
    """Connections that began under another mark are to end. "" as long as nobody asked."""
    return ",".join([*([asked] if asked else []), *_versions(guards)])


def _versions(guards: Guards) -> Iterator[str]:
    policies: tuple[AuthorizationPolicy | RequestAuthentication, ...] = (*guards.policies, *guards.authentications)
    for policy in policies:
        meta = policy.metadata
        if meta.annotations.get(POLICY_ANNOTATION, "") in TRUE:
            yield f"{type(policy).__name__}/{meta.namespace}/{meta.name}@{meta.generation}"
