"""JSON documents to typed objects: tolerant, because a watch must survive what a newer client stored.

Unknown fields are skipped here and listed by `unknown.unknown_fields`, for those who must say so.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from mizzen.api.base import Duration
from mizzen.api.unknown import type_at

T = TypeVar("T")


class Undecodable(ValueError):
    """The document cannot be read as its kind. `path` is where (`spec.http[0].timeout`), `reason` why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason


def convert(document: Any, struct: type[T]) -> T:
    """Read parsed JSON or YAML as `struct`; null counts as absent, as in Kubernetes. Raises Undecodable."""
    try:
        return msgspec.convert(document, struct, dec_hook=_duration)
    except msgspec.ValidationError:
        pass  # Perhaps only because of a null; those are rare, so they are dropped on the second try alone.
    try:
        return msgspec.convert(without_nulls(document), struct, dec_hook=_duration)
    except msgspec.ValidationError as error:
        raise _undecodable(error, struct) from None


def to_json(value: Any) -> Any:
    """The inverse of `convert`: plain JSON values, defaults left out."""
    return msgspec.to_builtins(value, enc_hook=_text)


def without_nulls(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {key: without_nulls(value) for key, value in document.items() if value is not None}
    if isinstance(document, list):
        return [without_nulls(item) for item in document]
    return document


def _duration(wanted: type, value: Any) -> Any:
    if wanted is not Duration:
        raise NotImplementedError(f"no decoding for {wanted}")
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a duration; write it as text with a unit, for example 10s")
    return Duration.parse(value)


def _text(value: Any) -> str:
    if isinstance(value, Duration):
        return str(value)
    raise NotImplementedError(f"no encoding for {type(value)}")


_NAMES = {
    "str": "text (put it in quotes)",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}
_WRONG_TYPE = re.compile(r"Expected `([^`]+)`, got `([^`]+)`\Z")
_MISSING = re.compile(r"Object missing required field `([^`]+)`\Z")
_OUT_OF_RANGE = re.compile(r"Expected `\w+` (<=|>=) ([\d.-]+)\Z")
_BAD_CHOICE = re.compile(r"Invalid enum value (.*)\Z")


def _undecodable(error: msgspec.ValidationError, struct: Any) -> Undecodable:
    """msgspec ends its messages with the JSON path: "Expected `int`, got `str` - at `$.spec.port`"."""
    reason, _, end = str(error).partition(" - at `")
    path = end.rstrip("`").removeprefix("$").removeprefix(".")
    return Undecodable(path, _in_words(reason, path, struct))


def _in_words(reason: str, path: str, struct: Any) -> str:
    if found := _MISSING.match(reason):
        return f"`{found[1]}` is required here"
    if found := _WRONG_TYPE.match(reason):
        wanted, given = (_NAMES.get(name.removesuffix(" | null"), name) for name in found.groups())
        return f"this must be {wanted}, not {given.partition(' (')[0]}"
    if found := _OUT_OF_RANGE.match(reason):
        return f"this must be at {'most' if found[1] == '<=' else 'least'} {found[2].removesuffix('.0')}"
    if found := _BAD_CHOICE.match(reason):
        choices = typing.get_args(type_at(struct, path))
        return f"{found[1]} is not one of {', '.join(map(str, choices))}" if choices else reason
    return reason
