"""A user's own `istio-proxy` container laid over the injected one, as a strategic merge patch would.

https://istio.io/latest/docs/setup/additional-setup/sidecar-injection/#customizing-injection
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

MERGE_KEYS = {"env": "name", "ports": "containerPort", "volumeMounts": "mountPath", "volumeDevices": "devicePath"}


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any]) -> JSON:
    """`over` wins; mappings merge, lists of named things merge by their key, other lists are replaced."""
    return {key: _value(key, base.get(key), over[key]) if key in over else base[key] for key in {**base, **over}}


def _value(key: str, base: Any, over: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return overlaid(base, over)
    if key in MERGE_KEYS and isinstance(base, list) and isinstance(over, list):
        return _by_key(base, over, MERGE_KEYS[key])
    return over


def _by_key(base: list[JSON], over: list[JSON], key: str) -> list[JSON]:
    mine = {item.get(key): item for item in over}
    kept = [_entry(item, mine.pop(item.get(key), None)) for item in base]
    return [*kept, *mine.values()]


def _entry(base: JSON, over: JSON | None) -> JSON:
    """An environment variable's `value` and `valueFrom` exclude each other."""
    if over is None:
        return base
    if {"value", "valueFrom"} & over.keys():
        base = {key: value for key, value in base.items() if key not in ("value", "valueFrom")}
    return overlaid(base, over)
