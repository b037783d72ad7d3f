"""security.istio.io: kinds that are known and refused until traffic in the mesh is encrypted (`ignored.py` says so)."""

from __future__ import annotations

from typing import Any

from mizzen.api.base import Object


class PeerAuthentication(Object[dict[str, Any]]):
    """Which encryption workloads ask of their callers."""


class RequestAuthentication(Object[dict[str, Any]]):
    """Which tokens of end users workloads accept."""


class AuthorizationPolicy(Object[dict[str, Any]]):
    """Who may call what."""
