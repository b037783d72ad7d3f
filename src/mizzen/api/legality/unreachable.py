"""Warnings about rules of a VirtualService that no request can reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from mizzen.api.base import Model
from mizzen.api.legality.finding import Findings, warning
from mizzen.api.networking import (
    HTTPMatchRequest,
    HTTPRoute,
    StringMatch,
    TCPRoute,
    TLSRoute,
    VirtualServiceSpec,
)

UNREACHABLE, INEFFECTIVE = "IST0130", "IST0131"
AnyRoute: TypeAlias = HTTPRoute | TLSRoute | TCPRoute


def rules(spec: VirtualServiceSpec) -> Findings:
    yield from _shadowed("spec.http", spec.http)
    yield from _shadowed("spec.tls", spec.tls)
    yield from _shadowed("spec.tcp", spec.tcp)
    yield from _covered_prefixes(spec.http)


def _shadowed(path: str, routes: Sequence[AnyRoute]) -> Findings:
    """A rule without match takes everything; a match that stood before takes what it matches."""
    seen: list[tuple[Model, int]] = []
    open_rule: int | None = None
    for index, rule in enumerate(routes):
        here = f"{path}[{index}]"
        if not rule.match:
            if open_rule is not None:
                yield warning(here, f"rule {index} is never used: only the last rule can have no matches", UNREACHABLE)
            open_rule = index
            continue
        if open_rule is not None:
            yield warning(here, f"rule {index} is never used: rule {open_rule} before it has no match", UNREACHABLE)
            continue
        repeated = 0
        for number, match in enumerate(rule.match):
            bare = _unnamed(match)
            before = next((place for other, place in seen if other == bare), None)
            if before is None:
                seen.append((bare, index))
                continue
            repeated += 1
            yield warning(f"{here}.match[{number}]", f"the same match stands in rule {before}", INEFFECTIVE)
        if repeated == len(rule.match):
            yield warning(here, f"rule {index} is never used: all matches used by prior rules", UNREACHABLE)


def _unnamed(match: Model) -> Model:
    return replace(match, name="") if isinstance(match, HTTPMatchRequest) else match


def _covered_prefixes(routes: Sequence[HTTPRoute]) -> Findings:
    """`/debug` before `/debugs` takes its requests, when the other conditions do not tell them apart."""
    places = [
        (f"spec.http[{index}].match[{number}]", match)
        for index, rule in enumerate(routes)
        for number, match in enumerate(rule.match)
        if match.uri is not None and match.uri.prefix
    ]
    for later, (path, narrow) in enumerate(places):
        for earlier, wide in places[:later]:
            if _prefix(wide) != _prefix(narrow) and _covers(wide, narrow):
                yield warning(
                    f"{path}.uri",
                    f"prefix {_prefix(narrow)} is never reached: {_prefix(wide)} of {earlier} comes first; swap them",
                    INEFFECTIVE,
                )


def _prefix(match: HTTPMatchRequest) -> str:
    return match.uri.prefix or "" if match.uri else ""


def _covers(wide: HTTPMatchRequest, narrow: HTTPMatchRequest) -> bool:
    """As Istio judges it, where a match without method counts as GET."""
    if not _prefix(narrow).startswith(_prefix(wide)) or wide.port != narrow.port:
        return False
    if not _wider(_method(wide), _method(narrow)) or not _wider(_text(wide.authority), _text(narrow.authority)):
        return False
    maps: list[Callable[[HTTPMatchRequest], dict[str, StringMatch]]] = [
        lambda match: match.headers,
        lambda match: match.query_params,
        lambda match: match.without_headers,
    ]
    return all(_wider_maps(get(wide), get(narrow)) for get in maps)


def _wider_maps(wide: dict[str, StringMatch], narrow: dict[str, StringMatch]) -> bool:
    same_keys = wide.keys() == narrow.keys()
    return same_keys and all(_wider(_text(wide[key]), _text(narrow[key])) for key in wide)


def _wider(wide: str, narrow: str) -> bool:
    return wide.startswith(narrow)


def _method(match: HTTPMatchRequest) -> str:
    return _text(match.method) or "exact:GET"


def _text(match: StringMatch | None) -> str:
    if match is None:
        return ""
    if match.exact:
        return f"exact:{match.exact}"
    return f"prefix:{match.prefix}" if match.prefix else ""
