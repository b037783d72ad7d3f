"""Functions of Kubernetes' CEL libraries that the language itself does not have: strings, lists, URLs, addresses.

A function is called as `f(x, y)` or `x.f(y)`. https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries
"""

from __future__ import annotations

import ipaddress
import itertools
import math
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from mizzen.embedded.apiserver import cel_quantities
from mizzen.embedded.apiserver.validation_pod import amount

Function = Callable[..., Any]


def _holds(parse: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except ValueError:
            return False
        return True

    return check


def _url(text: str) -> dict[str, Any]:
    """As Go's `url.ParseRequestURI`: absolute, or a path. Raises ValueError."""
    if not re.match(r"^([a-zA-Z][a-zA-Z0-9+.-]*:.|/)", text) or " " in text:
        raise ValueError(f"{text!r} is no URL")
    parts = urlsplit(text)
    return {
        "scheme": parts.scheme,
        "host": parts.netloc.rpartition("@")[2],
        "hostname": parts.hostname or "",
        "port": str(parts.port or ""),
        "path": parts.path,
        "query": parse_qs(parts.query, keep_blank_values=True),
    }


def _part(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda url: url[name]


def _index_of(within: Any, wanted: Any, start: int = 0) -> int:
    if isinstance(within, str):
        return within.find(wanted, start)
    return next((index for index, each in enumerate(within) if each == wanted), -1)


def _last_index_of(within: Any, wanted: Any) -> int:
    if isinstance(within, str):
        return within.rfind(wanted)
    return next((index for index in reversed(range(len(within))) if within[index] == wanted), -1)


def _is_sorted(values: list[Any]) -> bool:
    return all(left <= right for left, right in itertools.pairwise(values))


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    return list(text) if not separator else text.split(separator, -1 if limit < 0 else limit - 1)


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    return text.replace(old, new, limit)


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= stop <= len(text):
        raise ValueError(f"{start}, {stop} is no range of a string of {len(text)}")
    return text[start:stop]


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return found.group() if found else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [each.group() for each in re.finditer(pattern, text)]
    return found if limit < 0 else found[:limit]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if "/" not in text:
        raise ValueError("a network has a length")
    return ipaddress.ip_network(text, strict=False)


def _format(pattern: str, arguments: list[Any]) -> str:
    """`%s`, `%d`, `%f`, `%e`, `%b`, `%x`, `%X`, `%o` of CEL's strings library. Raises ValueError."""
    values = iter(arguments)

    def said(found: re.Match[str]) -> str:
        precision, verb = found.groups()
        if verb == "%":
            return "%"
        value = next(values, None)
        if verb == "s":
            return _text(value)
        return format(value, f"{precision or ''}{verb}")

    return re.sub(r"%(\.\d+)?([sdfebxXo%])", said, pattern)


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(key)}: {_text(item)}' for key, item in sorted(value.items()))}}}"
    return str(value)


def _contains_all(values: list[Any], wanted: list[Any]) -> bool:
    return all(each in values for each in wanted)


FUNCTIONS: dict[str, Function] = {
    **cel_quantities.FUNCTIONS,
    "format": _format,
    "sets.contains": _contains_all,
    "sets.equivalent": lambda one, other: _contains_all(one, other) and _contains_all(other, one),
    "sets.intersects": lambda one, other: any(each in other for each in one),
    "charAt": lambda text, index: text[index : index + 1],
    "find": _find,
    "findAll": _find_all,
    "indexOf": _index_of,
    "isCIDR": _holds(_network),
    "isIP": _holds(_address),
    "isQuantity": _holds(amount),
    "isSorted": _is_sorted,
    "isURL": _holds(_url),
    "join": lambda parts, separator="": separator.join(parts),
    "lastIndexOf": _last_index_of,
    "lowerAscii": lambda text: text.lower() if text.isascii() else text,
    "math.abs": abs,
    "math.ceil": lambda number: float(math.ceil(number)),
    "math.floor": lambda number: float(math.floor(number)),
    "replace": _replace,
    "split": _split,
    "substring": _substring,
    "sum": sum,
    "trim": str.strip,
    "upperAscii": lambda text: text.upper() if text.isascii() else text,
    "url": _url,
    "getEscapedPath": _part("path"),
    "getHost": _part("host"),
    "getHostname": _part("hostname"),
    "getPort": _part("port"),
    "getQuery": _part("query"),
    "getScheme": _part("scheme"),
}
