"""Tables as kubectl shows them: the columns of each kind, and the cells of each object.

Pure; `now` is a parameter. Columns and words: https://github.com/kubernetes/kubernetes/blob/release-1.32/pkg/printers/internalversion/printers.go
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.tables.cells import NAME, Column, age
from mizzen.embedded.apiserver.tables.custom import custom_columns
from mizzen.embedded.apiserver.tables.kinds import COLUMNS
from mizzen.kube.api import JSON

_AGE = Column("Age", lambda obj, now: age(obj["metadata"].get("creationTimestamp"), now), description="creation time")


def render(kind: ResourceType, objects: Sequence[JSON], now: datetime) -> tuple[list[JSON], list[list[object]]]:
    """`columnDefinitions`, and one list of cells per object."""
    columns = _columns(kind)
    rows = [[column.cell(obj, now) for column in columns] for obj in objects]
    return [column.definition() for column in columns], rows


def _columns(kind: ResourceType) -> tuple[Column, ...]:
    if kind.custom:
        return (NAME, *custom_columns(kind))
    return COLUMNS.get(kind.storage, (NAME, _AGE))
