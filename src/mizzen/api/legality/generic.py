"""Rules that hold for every struct: durations, and fields of which one may be set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mizzen.api.base import Duration, Model
from mizzen.api.legality.finding import Finding, Findings
from mizzen.api.paths import join

_MAY_BE_ZERO = (".tcp.idleTimeout", ".httpCookie.ttl", ".retryBudget.budgetInterval")


def everywhere(path: str, model: Model) -> Findings:
    """Checks a struct and all structs in it."""
    yield from _exclusive(path, model)
    for here, value in _children(path, model):
        if isinstance(value, Duration):
            yield from _duration(here, value)
        elif isinstance(value, Model):
            yield from everywhere(here, value)


def _children(path: str, model: Model) -> Iterator[tuple[str, Any]]:
    for name, written in zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True):
        value = getattr(model, name)
        here = join(path, written)
        if isinstance(value, tuple):
            yield from ((join(here, index), item) for index, item in enumerate(value))
        elif isinstance(value, Mapping):
            yield from ((join(here, key), item) for key, item in value.items())
        else:
            yield here, value


def _exclusive(path: str, model: Model) -> Findings:
    for choice in getattr(model, "ONE_OF", ()):
        given = [name for name in choice if getattr(model, name) is not None]
        if len(given) > 1:
            names = dict(zip(model.__struct_fields__, model.__struct_encode_fields__, strict=True))
            yield Finding(path, f"only one of {', '.join(names[name] for name in given)} can be set")


def _duration(path: str, value: Duration) -> Findings:
    if value == Duration(0) and path.endswith(_MAY_BE_ZERO):
        return
    if value < Duration(milliseconds=1):
        yield Finding(path, f"{value} is too short: a duration must be at least 1ms")
    elif value.microseconds % 1000:
        yield Finding(path, f"{value} is finer than a millisecond, which is the unit of durations here")
