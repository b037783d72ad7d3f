"""The columns of the built-in kinds."""

from __future__ import annotations

from mizzen.embedded.apiserver.tables.cells import Column

COLUMNS: dict[str, tuple[Column, ...]] = {}
