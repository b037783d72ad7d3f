"""Which fields of a document its kind does not have."""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import msgspec

from mizzen.api.paths import join


class Unknown(NamedTuple):
    path: str
    suggestion: str
    """The field that was probably meant, or ""."""
    owner: str = ""
    """The list beside it whose items have a field of this very name, or ""."""

    @property
    def message(self) -> str:
        name = self.path.rpartition(".")[2]
        if self.owner:
            place = f"it belongs inside an item of `{self.owner}`: indent it as deep as the keys there"
            return f"`{name}` is unknown here; {place}"
        hint = f"; did you mean `{self.suggestion}`?" if self.suggestion else "; remove it"
        return f"`{name}` is unknown here{hint}"


def unknown_fields(document: Any, struct: type, path: str = "") -> Iterator[Unknown]:
    """Walks a document beside its struct; what has the wrong type is left to decoding."""
    if isinstance(document, Mapping) and _is_struct(struct):
        fields = _fields(struct)
        for key, value in document.items():
            if key not in fields:
                yield Unknown(join(path, key), nearest(key, fields), _owner(key, fields))
            elif value is not None:
                yield from unknown_fields(value, fields[key], join(path, key))
        return
    item = _item_type(struct)
    if item is None:
        return
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield from unknown_fields(value, item, join(path, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from unknown_fields(value, item, join(path, index))


def nearest(key: str, names: Iterable[str]) -> str:
    """The name that was probably meant by `key`, however its words are joined; "" when none is near."""
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(key.replace("_", "").lower(), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else ""


def _owner(key: str, fields: Mapping[str, type]) -> str:
    for name, type_ in fields.items():
        item = _item_type(type_) if typing.get_origin(type_) is tuple else None
        if _is_struct(item) and key in _fields(item):
            return name
    return ""


def _is_struct(given: Any) -> bool:
    return isinstance(given, type) and issubclass(given, msgspec.Struct)


@cache
def _fields(struct: type) -> Mapping[str, type]:
    return {field.encode_name: bare_type(field.type) for field in msgspec.structs.fields(struct)}


def bare_type(given: Any) -> Any:
    """Without `Annotated` and `| None`."""
    if typing.get_origin(given) is typing.Annotated:
        return bare_type(typing.get_args(given)[0])
    inner = without_none(given)
    return given if inner is given else bare_type(inner)


def without_none(given: Any) -> Any:
    """`T` for `T | None`; anything else, also a choice of several types, as it is."""
    if typing.get_origin(given) not in (typing.Union, types.UnionType):
        return given
    rest = [option for option in typing.get_args(given) if option is not type(None)]
    return rest[0] if len(rest) == 1 else given


def _item_type(given: Any) -> Any:
    """What a tuple or dict holds, if that is a struct or again a collection; None otherwise."""
    arguments = typing.get_args(given)
    if typing.get_origin(given) is tuple:
        return bare_type(arguments[0])
    if typing.get_origin(given) is dict:
        return bare_type(arguments[1])
    return None


def type_at(struct: Any, path: str) -> Any:
    """The type that a path of msgspec's (`spec.http[0].match[...].name`) leads to; None when it leads nowhere."""
    found: Any = struct
    for step in re.findall(r"[^.\[\]]+|\[[^\]]*\]", path):
        found = _item_type(found) if step.startswith("[") else _field_type(found, step)
    return found


def _field_type(struct: Any, name: str) -> Any:
    return _fields(struct).get(name) if _is_struct(struct) else None
