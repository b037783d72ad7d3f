"""The keys of `when`, and path templates: what may be written in an AuthorizationPolicy.

https://istio.io/latest/docs/reference/config/security/conditions/
"""

from __future__ import annotations

import re
from typing import NamedTuple

ADDRESSES = frozenset({"source.ip", "remote.ip", "destination.ip"})
IDENTITY = frozenset({"source.namespace", "source.principal", "source.serviceAccount", "source.trustDomain"})
TOKEN = frozenset({"request.auth.principal", "request.auth.audiences", "request.auth.presenter", "request.auth.claims"})
HTTP_ONLY = TOKEN | {"request.headers"}
_PLAIN = ADDRESSES | IDENTITY | (TOKEN - {"request.auth.claims"}) | {"destination.port", "connection.sni"}
_BRACKETS = re.compile(r"\[([^\[\]]+)\]")
_WITH_BRACKETS = re.compile(
    r"(request\.headers|request\.auth\.claims|experimental\.envoy\.filters\.[^\[\]]+)((?:\[[^\[\]]+\])+)\Z"
)
_ROUTED_CLAIM = re.compile(r"@request\.auth\.claims(?:\.(.+)|((?:\[[^\[\]]+\])+))\Z", re.IGNORECASE)
METADATA = "experimental.envoy.filters"


class Key(NamedTuple):
    """`request.headers`, or `experimental.envoy.filters` for all of Envoy's metadata, and what stands in brackets."""

    attribute: str
    arguments: tuple[str, ...] = ()
    """Of metadata, the filter's name comes first."""


def parse_key(key: str) -> Key | None:
    """None for a key that there is not."""
    if key in _PLAIN:
        return Key(key)
    found = _WITH_BRACKETS.match(key)
    if found is None:
        return None
    attribute, arguments = found[1], tuple(_BRACKETS.findall(found[2]))
    if attribute.startswith(METADATA):
        return Key(METADATA, (attribute.removeprefix("experimental."), *arguments)) if len(arguments) == 1 else None
    if attribute == "request.headers" and len(arguments) != 1:
        return None
    return Key(attribute, arguments)


def claim_path(header: str) -> tuple[str, ...]:
    """Where in a token the value is that a VirtualService asks for as `@request.auth.claims.a.b` or `…[a][b]`.

    () for the name of a header.
    """
    found = _ROUTED_CLAIM.match(header)
    if found is None:
        return ()
    return tuple(found[1].split(".")) if found[1] else tuple(_BRACKETS.findall(found[2]))


ONE_SEGMENT, MANY_SEGMENTS = "{*}", "{**}"


def is_template(path: str) -> bool:
    return ONE_SEGMENT in path or MANY_SEGMENTS in path


def template_problem(path: str) -> str:
    """Why a path with `{` is none that can be matched; "" when it is."""
    for index, segment in enumerate(path.split("/")):
        if segment in (ONE_SEGMENT, MANY_SEGMENTS):
            continue
        if "{" in segment or "}" in segment:
            return f"segment {index} ({segment!r}) mixes text with braces: {{*}} and {{**}} stand for whole segments"
        if "*" in segment:
            return "a path with {*} or {**} cannot have another wildcard"
    rest = path.partition(MANY_SEGMENTS)[2]
    if MANY_SEGMENTS in rest:
        return "{**} may stand in a path once"
    return "{**} must be the last wildcard, but {*} follows" if ONE_SEGMENT in rest else ""


def template_regex(path: str) -> str:
    """The RE2 expression of a template: one segment is not empty, many may be none."""
    parts = re.split(r"(\{\*\*?\})", path)
    words = {ONE_SEGMENT: "[^/]+", MANY_SEGMENTS: ".*"}
    return "".join(words.get(part) or quoted(part) for part in parts)


def quoted(text: str) -> str:
    """Literally, in RE2 as well as in Python."""
    return re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", text)
