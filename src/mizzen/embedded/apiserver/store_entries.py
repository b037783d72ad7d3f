"""What the store keeps: versions of objects, and what happened to them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from mizzen.kube.api import JSON

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

_decode = msgspec.json.Decoder(JSON).decode


class Key(NamedTuple):
    """`resource` is `plural` or `plural.group`; `namespace` is "" for what is cluster-wide."""

    resource: str
    namespace: str
    name: str


class _StoredMeta(msgspec.Struct):
    uid: str = ""
    labels: dict[str, str] | None = None


class _Stored(msgspec.Struct, rename="camel"):
    api_version: str = ""
    metadata: _StoredMeta = msgspec.field(default_factory=_StoredMeta)


_decode_meta = msgspec.json.Decoder(_Stored).decode


class Entry:
    """One version of one object: immutable bytes, and the few parts that every list looks at."""

    __slots__ = ("api_version", "key", "labels", "raw", "revision", "uid")

    def __init__(self, key: Key, revision: int, raw: bytes) -> None:
        head = _decode_meta(raw)
        self.key, self.revision, self.raw = key, revision, raw
        self.api_version, self.uid, self.labels = head.api_version, head.metadata.uid, head.metadata.labels or {}

    def document(self) -> JSON:
        """A fresh copy: the caller may change it."""
        return _decode(self.raw)


class Event(NamedTuple):
    """`entry` is the object after the event (for DELETED: its last state with the deletion's revision)."""

    revision: int
    type: EventType
    entry: Entry
    previous: Entry | None
