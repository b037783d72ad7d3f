"""PeerAuthentication: which encryption workloads ask of their callers.

https://istio.io/latest/docs/reference/config/security/peer_authentication/
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from mizzen.api.base import Model, Object
from mizzen.api.values import MatchLabels

PeerMode: TypeAlias = Literal["UNSET", "DISABLE", "PERMISSIVE", "STRICT"]


class MutualTLS(Model):
    mode: PeerMode | None = None
    """None and UNSET: what the next wider policy says."""


class PeerAuthenticationSpec(Model):
    selector: MatchLabels | None = None
    """None: the whole namespace, or in the root namespace the whole mesh."""
    mtls: MutualTLS | None = None
    port_level_mtls: dict[str, MutualTLS] = {}
    """By container port, written as text."""


class PeerAuthentication(Object[PeerAuthenticationSpec]):
    """Which encryption workloads ask of their callers."""
