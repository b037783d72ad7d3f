"""CEL source as text: which names it uses, and what our parser does not know written in words that it knows.

The library gives no syntax tree; these questions need none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""(?P<text>[rbRB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))
    |(?P<comment>//[^\n]*)|(?P<blank>\s+)|(?P<name>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<mark>\.\?|\[\?|&&|\|\||[=!<>]=|.)""",
    re.VERBOSE | re.DOTALL,
)
_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def tokens(source: str) -> list[str]:
    """Without blanks and comments."""
    return [found.group() for found in _TOKEN.finditer(source) if found.lastgroup not in ("blank", "comment")]


def _is_name(token: str) -> bool:
    return token[:1].isalpha() or token[:1] == "_"


def bound_names(source: str) -> frozenset[str]:
    """The names that macros bring: `x` in `list.all(x, x > 1)`."""
    found = tokens(source)
    macros = (index for index in range(1, len(found) - 2) if found[index] in _MACROS and found[index - 1] == ".")
    return frozenset(found[index + 2] for index in macros if found[index + 1] == "(")


def field_paths(source: str, root: str) -> Iterator[tuple[str, ...]]:
    """The fields that are read of a variable by name: (`spec`, `replicas`) of `object.spec.replicas`."""
    found = [*tokens(source), "", ""]
    for index, token in enumerate(found):
        if token != root or (index and found[index - 1] in (".", ".?")):
            continue
        path: list[str] = []
        at = index + 1
        while found[at] in (".", ".?") and _is_name(found[at + 1]):
            path.append(found[at + 1])
            at += 2
        yield tuple(path[:-1] if found[at] == "(" else path)


def plain(source: str) -> str:
    """The same without optional syntax: `a.?b.c` becomes `optionalAt(optionalAt(a, "b"), "c")`."""
    found = tokens(source)
    return source if ".?" not in found and "[?" not in found else " ".join(_rewritten(found))


def _rewritten(found: list[str]) -> list[str]:
    """Every postfix chain that has an optional step, as calls; the rest as it is."""
    done: list[str] = []
    index = 0
    while index < len(found):
        token = found[index]
        if token in _CLOSING or _is_name(token) or token[:1] in "\"'":
            chain, index = _chain(found, index)
            done.append(chain)
        else:
            done.append(token)
            index += 1
    return done


def _chain(found: list[str], index: int) -> tuple[str, int]:
    """One primary and what follows it; and the index after that."""
    said, index = _primary(found, index)
    is_optional = False
    while index < len(found):
        mark = found[index]
        if mark in (".", ".?") and index + 1 < len(found) and _is_name(found[index + 1]):
            name, called = found[index + 1], found[index + 2 : index + 3] == ["("]
            is_optional = is_optional or mark == ".?"
            if called or not is_optional:
                said, is_optional = f"{said}.{name}", is_optional and not called
            else:
                said = f'optionalAt({said}, "{name}")'
            index += 2
        elif mark in ("[", "[?"):
            inner, index = _inner(found, index)
            is_optional = is_optional or mark == "[?"
            said = f"optionalAt({said}, {inner})" if is_optional else f"{said}[{inner}]"
        elif mark == "(":
            inner, index = _inner(found, index)
            said = f"{said}({inner})"
        else:
            break
    return said, index


def _primary(found: list[str], index: int) -> tuple[str, int]:
    mark = found[index]
    if mark not in _CLOSING:
        return mark, index + 1
    inner, after = _inner(found, index)
    return f"{mark}{inner}{_CLOSING[mark]}", after


def _inner(found: list[str], index: int) -> tuple[str, int]:
    """What stands between an opening mark and its closing one, rewritten; and the index after that."""
    depth, at = 1, index + 1
    while at < len(found) and depth:
        depth += (found[at] in ("(", "[", "{", "[?")) - (found[at] in (")", "]", "}"))
        at += 1
    return " ".join(_rewritten(found[index + 1 : at - 1])), at
