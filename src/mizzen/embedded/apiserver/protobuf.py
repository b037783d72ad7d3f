"""Request bodies of type `application/vnd.kubernetes.protobuf`, as kubectl create and Helm send them.

The magic `k8s` and a zero byte are followed by a runtime.Unknown (apiVersion, kind, raw bytes); the table of messages
is packaged data (data/README.md). Go writes the zero value of every field that is no pointer; the table's `z` flag
tells which zeros mean something.
Encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import msgspec

from mizzen.embedded.apiserver.schema_definitions import definition_name, read_member
from mizzen.kube.api import JSON

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"

_META = "k8s.io.apimachinery.pkg.apis.meta.v1"
_RUNTIME = "k8s.io.apimachinery.pkg.runtime"
_EXTENSIONS = "k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.v1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_ABSENT = object()
_MALFORMED = (
    IndexError,  # the body ends within a number
    ValueError,
    TypeError,  # a number where bytes belong, or the reverse
    OverflowError,  # a time beyond the calendar
    RecursionError,
    struct.error,
    msgspec.DecodeError,
)


class ProtobufError(Exception):
    """A body that is not what its content type says, or a kind this server does not know. Answer 400 BadRequest."""


def decode(body: bytes) -> JSON:
    """The object as the JSON document that a JSON client would have sent. Raises ProtobufError."""
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")
    try:
        return _decode_unknown(memoryview(body)[len(MAGIC) :])
    except _MALFORMED as error:
        raise ProtobufError(f"the protobuf body cannot be read: {error}") from error


def _decode_unknown(data: memoryview) -> JSON:
    envelope: dict[int, Any] = {number: value for number, _, value in _fields(data)}
    type_meta = {number: _text(value) for number, _, value in _fields(envelope.get(1, memoryview(b"")))}
    raw, api_version, kind = envelope.get(2, memoryview(b"")), type_meta.get(1, ""), type_meta.get(2, "")
    if "json" in _text(envelope.get(4, b"")):
        document: JSON = msgspec.json.decode(raw, type=dict)
        return document
    return {"apiVersion": api_version, "kind": kind, **_decode_message(_message_name(api_version, kind), raw)}


def _message_name(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    if kind in ("DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions"):
        return f"{_META}.{kind}"
    name = definition_name(group, version, kind)
    if name is None:
        raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
    return name.replace("io.k8s.", "k8s.io.", 1).replace("apiextensions-apiserver", "apiextensions_apiserver")


@cache
def _package(name: str) -> dict[str, dict[str, list[str]]]:
    found: dict[str, dict[str, list[str]]] = read_member("protobuf.zip", f"{name}.json")
    return found


@cache
def _table(message: str) -> dict[int, tuple[str, str, str]]:
    """{number: (JSON name, type, flags)} of one message."""
    package, _, name = message.rpartition(".")
    fields = _package(package).get(name)
    if fields is None:
        raise ProtobufError(f"the protobuf message {message} is not known")
    return {int(number): (json_name, kind, flags) for number, (json_name, kind, flags) in fields.items()}


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint is longer than ten bytes")


def _fields(data: memoryview | bytes) -> Iterator[tuple[int, int, Any]]:
    """(number, wire type, int or bytes) of each field."""
    data, at = memoryview(data), 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield tag >> 3, wire, value
            continue
        if wire == _LENGTH:
            size, at = _varint(data, at)
        elif wire in (_FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} is not used by Kubernetes")
        if at + size > len(data):
            raise ValueError("a field ends after the message")
        yield tag >> 3, wire, data[at : at + size]
        at += size


def _text(value: Any) -> str:
    if isinstance(value, int):  # bytes(n) would be n zeros
        raise TypeError("a number where text belongs")
    return bytes(value).decode()


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def _double(value: Any) -> float:
    number: float = struct.unpack("<d", value)[0]
    return number


_SCALARS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "string": ("", _text),
    "bytes": ("", lambda value: base64.b64encode(value).decode()),
    "bool": (False, bool),
    "int32": (0, _signed),
    "int64": (0, _signed),
    "double": (0.0, _double),
}


def _decode_message(message: str, data: memoryview | bytes) -> JSON:
    table, result = _table(message), JSON()
    for number, wire, value in _fields(data):
        entry = table.get(number)
        if entry is not None:
            _decode_field(result, entry, wire, value)
    return result


def _decode_field(result: JSON, entry: tuple[str, str, str], wire: int, value: Any) -> None:
    name, kind, flags = entry
    if kind.startswith("map:"):
        key, item = _map_entry(kind.removeprefix("map:"), value)
        result.setdefault(name, {})[key] = item
    elif "i" in flags:
        result.update(_decode_message(kind, value))
    elif "r" in flags:
        result.setdefault(name, []).extend(_elements(kind, wire, value))
    else:
        decoded = _value(kind, value)
        if decoded is not _ABSENT and ("z" in flags or decoded not in ("", 0, {}, [])):
            result[name] = decoded


def _elements(kind: str, wire: int, value: Any) -> list[Any]:
    """One element, or several packed numbers."""
    if wire == _LENGTH and kind in ("int32", "int64", "bool"):
        numbers, at = [], 0
        while at < len(value):
            number, at = _varint(value, at)
            numbers.append(_value(kind, number))
        return numbers
    decoded = _value(kind, value)
    return [] if decoded is _ABSENT else [decoded]


def _map_entry(kind: str, data: memoryview) -> tuple[str, Any]:
    parts = {number: value for number, _, value in _fields(data)}
    key = _text(parts.get(1, b""))
    if 2 in parts:
        return key, _value(kind, parts[2])
    return key, _SCALARS[kind][0] if kind in _SCALARS else _value(kind, b"")


def _value(kind: str, value: Any) -> Any:
    scalar = _SCALARS.get(kind)
    if scalar is not None:
        return scalar[1](value)
    special = _SPECIAL.get(kind)
    return special(value) if special else _decode_message(kind, value)


def _numbered(data: Any) -> dict[int, Any]:
    return {number: value for number, _, value in _fields(data)}


def _time(data: Any) -> Any:
    """RFC 3339 in whole seconds; an empty message is Go's zero time, which JSON leaves out."""
    parts = _numbered(data)
    if not parts:
        return _ABSENT
    return f"{_EPOCH + timedelta(seconds=_signed(parts.get(1, 0))):%Y-%m-%dT%H:%M:%SZ}"


def _micro_time(data: Any) -> Any:
    parts = _numbered(data)
    if not parts:
        return _ABSENT
    moment = _EPOCH + timedelta(seconds=_signed(parts.get(1, 0)), microseconds=parts.get(2, 0) // 1000)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


def _duration(data: Any) -> str:
    nanoseconds = _signed(_numbered(data).get(1, 0))
    return f"{nanoseconds / 1e9:.9f}".rstrip("0").rstrip(".") + "s"


def _int_or_string(data: Any) -> int | str:
    parts = _numbered(data)
    return _text(parts.get(3, b"")) if parts.get(1, 0) == 1 else _signed(parts.get(2, 0))


def _quantity(data: Any) -> str:
    return _text(_numbered(data).get(1, b"")) or "0"


def _raw_json(data: Any) -> Any:
    raw = _numbered(data).get(1)
    return msgspec.json.decode(raw) if raw else _ABSENT


def _items(data: Any) -> list[str]:
    return [_text(value) for _, _, value in _fields(data)]


def _schema_or_bool(data: Any) -> Any:
    parts = _numbered(data)
    return _decode_message(f"{_EXTENSIONS}.JSONSchemaProps", parts[2]) if 2 in parts else bool(parts.get(1, 0))


def _schema_or_list(data: Any) -> Any:
    schemas = [_decode_message(f"{_EXTENSIONS}.JSONSchemaProps", value) for _, _, value in _fields(data)]
    return schemas[0] if any(number == 1 for number, _, _ in _fields(data)) else schemas


def _schema_or_names(data: Any) -> Any:
    parts = _numbered(data)
    return _decode_message(f"{_EXTENSIONS}.JSONSchemaProps", parts[1]) if 1 in parts else _items(data)


_SPECIAL: dict[str, Callable[[Any], Any]] = {
    f"{_META}.Time": _time,
    f"{_META}.MicroTime": _micro_time,
    f"{_META}.Duration": _duration,
    f"{_META}.FieldsV1": _raw_json,
    f"{_META}.Verbs": _items,
    f"{_RUNTIME}.RawExtension": _raw_json,
    "k8s.io.apimachinery.pkg.util.intstr.IntOrString": _int_or_string,
    "k8s.io.apimachinery.pkg.api.resource.Quantity": _quantity,
    "k8s.io.api.authentication.v1.ExtraValue": _items,
    "k8s.io.api.authorization.v1.ExtraValue": _items,
    "k8s.io.api.certificates.v1.ExtraValue": _items,
    f"{_EXTENSIONS}.JSON": _raw_json,
    f"{_EXTENSIONS}.JSONSchemaPropsOrBool": _schema_or_bool,
    f"{_EXTENSIONS}.JSONSchemaPropsOrArray": _schema_or_list,
    f"{_EXTENSIONS}.JSONSchemaPropsOrStringArray": _schema_or_names,
}
