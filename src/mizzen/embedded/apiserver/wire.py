"""Requests and answers without a transport: what the core takes and gives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias
from urllib.parse import parse_qsl

import msgspec

from mizzen.embedded.apiserver import errors
from mizzen.kube.api import JSON

Representation = Literal["object", "table", "partial"]

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class User:
    """Who asks. `extra` as in UserInfo: lists of strings."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict)

    def document(self) -> JSON:
        info: JSON = {"username": self.name, "groups": list(self.groups)}
        return {
            **info,
            **({"uid": self.uid} if self.uid else {}),
            **({"extra": dict(self.extra)} if self.extra else {}),
        }


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
LOOPBACK = User("system:apiserver", ("system:masters", "system:authenticated"))


@dataclass(slots=True)
class Request:
    """`headers` has lower-case names; `path` is decoded and has no trailing slash."""

    method: str
    path: str
    query: list[tuple[str, str]] = field(default_factory=list)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    user: User = ANONYMOUS
    warnings: list[str] = field(default_factory=list)

    def parameter(self, name: str, default: str = "") -> str:
        return next((value for key, value in self.query if key == name), default)

    def flag(self, name: str) -> bool:
        """A boolean as Go's `strconv.ParseBool` reads it. Raises 400."""
        return parse_flag(name, self.parameter(name))

    def number(self, name: str) -> int | None:
        """A whole number of 64 bits, or None if it is not given. Raises 400."""
        text = self.parameter(name)
        if not text:
            return None
        try:
            found = int(text)
        except ValueError:
            raise errors.bad_request(f'invalid {name}: "{text}" is not a whole number') from None
        if not -(2**63) <= found < 2**63:
            raise errors.bad_request(f'invalid {name}: "{text}" is out of range')
        return found


_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"", "0", "f", "F", "FALSE", "false", "False"})


def parse_flag(name: str, text: str) -> bool:
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise errors.bad_request(f'invalid {name}: "{text}" is not a boolean')


def parse_query(text: str) -> list[tuple[str, str]]:
    return parse_qsl(text, keep_blank_values=True)


@dataclass(slots=True)
class Response:
    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Stream:
    """A body that goes on: a watch, or a log that is followed."""

    chunks: AsyncIterator[bytes]
    content_type: str = "application/json"
    status: int = 200


@dataclass(slots=True)
class Upgrade:
    """A connection to a container: the shell hands it to the stream protocols."""

    verb: Literal["exec", "attach", "portforward"]
    namespace: str
    pod: str
    container: str
    request: Request


Answer: TypeAlias = Response | Stream | Upgrade


def reply(document: Any, status: int = 200, content_type: str = "application/json") -> Response:
    return Response(encode(document), status, content_type)


@lru_cache(maxsize=128)
def representation(accept: str) -> Representation:
    """What the client would like best of what we can do; plain JSON if in doubt."""
    for offer in accept.split(","):
        media, *parameters = (part.strip() for part in offer.split(";"))
        wanted = dict(parameter.partition("=")[::2] for parameter in parameters)
        if media not in ("application/json", "application/yaml", "*/*", "application/*", ""):
            continue
        shape = wanted.get("as", "")
        if shape == "Table":
            return "table"
        if shape in ("PartialObjectMetadata", "PartialObjectMetadataList"):
            return "partial"
        if not shape:
            return "object"
    return "object"
