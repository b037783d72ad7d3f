"""Label and field selectors, in the wire form of queries and as the objects in specs.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from mizzen.kube.api import JSON, Selector

Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"(?P<key>{_NAME})\s+(?P<verb>in|notin)\s*\((?P<values>[^()]*)\)")
_EQUALITY = re.compile(rf"(?P<key>{_NAME})\s*(?P<sign>!=|==|=)\s*(?P<value>[-A-Za-z0-9_.]*)")
_PRESENCE = re.compile(rf"(?P<absent>!?)\s*(?P<key>{_NAME})")
_COMMA = re.compile(r",(?![^()]*\))")


def _among(key: str, values: frozenset[str]) -> Requirement:
    return lambda labels: labels.get(key) in values


def _not_among(key: str, values: frozenset[str]) -> Requirement:
    return lambda labels: labels.get(key) not in values


def _present(key: str) -> Requirement:
    return lambda labels: key in labels


def _absent(key: str) -> Requirement:
    return lambda labels: key not in labels


@lru_cache(maxsize=512)
def requirements(text: str) -> tuple[Requirement, ...]:
    """What `a=b,c!=d,e in (f,g),h,!i` asks; all must hold. Raises ValueError."""
    return tuple(_requirement(part.strip()) for part in _COMMA.split(text) if part.strip())


def _requirement(text: str) -> Requirement:
    if match := _SET.fullmatch(text):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return (_among if match["verb"] == "in" else _not_among)(match["key"], values)
    if match := _EQUALITY.fullmatch(text):
        return (_not_among if match["sign"] == "!=" else _among)(match["key"], frozenset({match["value"]}))
    if match := _PRESENCE.fullmatch(text):
        return (_absent if match["absent"] else _present)(match["key"])
    raise ValueError(f"{text!r} is not a label selector")


def select_labels(selector: JSON | None) -> Requirement:
    """A spec's `selector` (matchLabels and matchExpressions). None selects nothing, an empty one everything."""
    if selector is None:
        return lambda _: False
    pairs: dict[str, str] = selector.get("matchLabels") or {}
    asked = [_expression(expression) for expression in selector.get("matchExpressions") or ()]

    def holds(labels: Labels) -> bool:
        return pairs.items() <= labels.items() and all(requirement(labels) for requirement in asked)

    return holds


def _expression(expression: JSON) -> Requirement:
    key, values = expression["key"], frozenset(expression.get("values") or ())
    match expression["operator"]:
        case "In":
            return _among(key, values)
        case "NotIn":
            return _not_among(key, values)
        case "Exists":
            return _present(key)
        case "DoesNotExist":
            return _absent(key)
    raise ValueError(f"{expression['operator']!r} is not an operator of matchExpressions")


@lru_cache(maxsize=512)
def field_terms(text: str) -> tuple[tuple[tuple[str, ...], bool, str], ...]:
    """(path, whether it must be equal, value) of each term of a field selector. Raises ValueError."""
    return tuple(_field_term(part) for part in text.split(",") if part)


def _field_term(text: str) -> tuple[tuple[str, ...], bool, str]:
    path, sign, value = re.split(r"(!=|==|=)", text, maxsplit=1) if "=" in text else (text, "", "")
    if not sign:
        raise ValueError(f"{text!r} is not a field selector")
    return tuple(path.strip().split(".")), sign != "!=", value


def field_text(obj: Any, path: tuple[str, ...]) -> str:
    """The field as a selector compares it: absent is the empty string, booleans are words."""
    for part in path:
        obj = obj.get(part) if isinstance(obj, dict) else None
    if isinstance(obj, bool):
        return str(obj).lower()
    return "" if obj is None else str(obj)


def selects(selector: Selector, obj: JSON) -> bool:
    """Whether the object passes both of the selector's filters. Raises ValueError for a malformed one."""
    labels = obj["metadata"].get("labels") or {}
    return all(requirement(labels) for requirement in requirements(selector.labels)) and all(
        (field_text(obj, path) == value) is equal for path, equal, value in field_terms(selector.fields)
    )
