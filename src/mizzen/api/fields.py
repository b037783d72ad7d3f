"""Every field of every kind, and whether it takes effect: what `docs/reference/fields.md` is made of."""

from __future__ import annotations

import functools
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from mizzen.api.ignored import LEDGER, Entry
from mizzen.api.registry import KINDS, KUBERNETES_KINDS, Kind
from mizzen.api.unknown import bare_type

_members = functools.cache(msgspec.structs.fields)
"""Evaluating annotations is most of the work, and small structs stand in many places."""


class Field(NamedTuple):
    path: str
    """`spec.http[].timeout`; `*` for the keys of a map."""
    type: str
    entry: Entry | None
    """Why it has no effect; None when it has."""


def fields(kind: Kind) -> Iterator[Field]:
    """The leaves of a kind's specification, in the order of its struct."""
    spec = next(field.type for field in _members(kind.struct) if field.name == "spec")
    entries = {entry.path: entry for entry in LEDGER if entry.kind == kind.kind}
    yield from _walk(spec, "spec", entries, entries.get(""))


def _walk(given: Any, path: str, entries: Mapping[str, Entry], entry: Entry | None) -> Iterator[Field]:
    given, entry = bare_type(given), entries.get(path, entry)
    arguments = typing.get_args(given)
    if isinstance(given, type) and issubclass(given, msgspec.Struct):
        for field in _members(given):
            yield from _walk(field.type, f"{path}.{field.encode_name}", entries, entry)
    elif typing.get_origin(given) is tuple:
        yield from _walk(arguments[0], f"{path}[]", entries, entries.get(path, entry))
    elif typing.get_origin(given) is dict and arguments[1] is not Any:
        yield from _walk(arguments[1], f"{path}.*", entries, entry)
    else:
        yield Field(path, _type_name(given), entry)


def _type_name(given: Any) -> str:
    if typing.get_origin(given) is typing.Literal:
        return " ".join(map(str, typing.get_args(given)))
    return {"str": "text", "int": "number", "float": "number", "bool": "true/false", "Duration": "duration"}.get(
        getattr(given, "__name__", ""), "any"
    )


def table() -> str:
    """The page, in Markdown."""
    lines = [
        "# Which fields take effect",
        "",
        "Generated from the ledger that admission answers from (`src/mizzen/api/ignored.py`) by",
        "`scripts/build_field_table.py`. ✔ takes effect; **refused** is not accepted, with the reason; **told** is",
        "accepted with a warning. All served versions of a kind are equal.",
    ]
    for kind in (*KINDS, *KUBERNETES_KINDS):
        lines += ["", f"## {kind.kind}", "", f"`{kind.group}`: {', '.join(kind.versions)}", ""]
        whole = next((entry for entry in LEDGER if entry.kind == kind.kind and not entry.path), None)
        lines += [f"**Refused**: {whole.reason}."] if whole else _rows(kind)
    return "\n".join(lines) + "\n"


def _rows(kind: Kind) -> list[str]:
    rows = (f"| `{field.path}` | {field.type} | {_effect(field.entry)} |" for field in fields(kind))
    return ["| Field | Type | Effect |", "|---|---|---|", *rows]


def _effect(entry: Entry | None) -> str:
    if entry is None:
        return "✔"
    if entry.verdict == "follows":
        return entry.reason
    verdict = "**refused**" if entry.verdict == "refuse" else "**told**"
    unless = f", except {' and '.join(entry.except_values)}" if entry.except_values else ""
    return f"{verdict}{unless}: {entry.reason}"
