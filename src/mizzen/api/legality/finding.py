"""A finding before it is known which object it is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

INVALID = "IST0106"
QUESTIONABLE = "IST0133"


class Finding(NamedTuple):
    path: str
    message: str
    level: Literal["error", "warning", "info"] = "error"
    code: str = INVALID


Findings: TypeAlias = Iterator[Finding]


def warning(path: str, message: str, code: str = QUESTIONABLE) -> Finding:
    return Finding(path, message, "warning", code)
