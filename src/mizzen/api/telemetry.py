"""telemetry.istio.io and extensions.istio.io: kinds that are known and not served yet (`ignored.py` says so)."""

from __future__ import annotations

from typing import Any

from mizzen.api.base import Object


class Telemetry(Object[dict[str, Any]]):
    """What is measured, traced and logged."""


class WasmPlugin(Object[dict[str, Any]]):
    """WebAssembly in proxies."""


class TrafficExtension(Object[dict[str, Any]]):
    """Lua or WebAssembly in proxies."""
