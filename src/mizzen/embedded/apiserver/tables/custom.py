"""Columns of custom resources: what `additionalPrinterColumns` says."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import Any

from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.tables.cells import Column, age
from mizzen.kube.api import JSON

_STEP = re.compile(
    r"\.([A-Za-z0-9_$\-/]+(?:\\\.[A-Za-z0-9_\-/]+)*)|\[(?:'([^']*)'|(\d+|\*))\]|\[\?\(@\.([\w.]+)==['\"]?([^'\"\])]*)['\"]?\)\]"
)
_DEFAULT = ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},)


def custom_columns(kind: ResourceType) -> list[Column]:
    version: JSON = kind.crd_version or {}
    return [_column(each) for each in version.get("additionalPrinterColumns") or _DEFAULT]


def _column(declared: JSON) -> Column:
    return Column(
        declared["name"],
        partial(_cell, declared["jsonPath"], declared["type"]),
        type="string" if declared["type"] == "date" else declared["type"],
        format=declared.get("format", ""),
        priority=declared.get("priority", 0),
        description=declared.get("description", ""),
    )


def _cell(path: str, kind: str, obj: JSON, now: datetime) -> object:
    found = json_path(obj, path)
    if not found:
        return None
    value = found[0]
    if kind == "date":
        return age(str(value), now)
    if kind == "string":
        return value if isinstance(value, str) else _go_text(value)
    return value


def _go_text(value: Any) -> str:
    """A list or map as Go's JSONPath printer writes it."""
    import msgspec

    return msgspec.json.encode(value).decode()


def json_path(obj: Any, path: str) -> list[Any]:
    """The values at a simple JSONPath: names, indexes, `*`, and filters by equality."""
    found = [obj]
    for match in _STEP.finditer(path if path.startswith((".", "[")) else f".{path}"):
        found = [value for each in found for value in _step(each, match)]
    return [each for each in found if each is not None]


def _step(value: Any, match: re.Match[str]) -> list[Any]:
    name = match[1].replace("\\.", ".") if match[1] else match[2]
    if name:
        return [value[name]] if isinstance(value, dict) and name in value else []
    if not isinstance(value, list):
        return []
    if match[4]:
        return [each for each in value if [str(v) for v in json_path(each, f".{match[4]}")] == [match[5]]]
    if match[3] == "*":
        return value
    return value[int(match[3]) : int(match[3]) + 1]
