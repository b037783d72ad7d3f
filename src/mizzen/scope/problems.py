"""Findings as values. Codes are Istio's analyzer codes where it has one, else MZ and four digits."""

from __future__ import annotations

from typing import Literal

from mizzen.api.base import Problem, Resource


def problem(
    about: Resource, code: str, path: str, message: str, level: Literal["error", "warning", "info"] = "warning"
) -> Problem:
    """A finding about one object; `path` from its top, for example `spec.http[0].route[0].destination.host`."""
    return Problem(
        code=code,
        level=level,
        kind=about.kind or type(about).__name__,
        namespace=about.metadata.namespace,
        name=about.metadata.name,
        path=path,
        message=message,
    )
