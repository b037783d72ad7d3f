"""One memo for the whole core: results by the identity of their arguments.

The reflector hands back the old object when nothing in it changed, so identity stands for equality and costs nothing
to compare. Arguments are kept alive with their result: an id cannot be taken over by another object. What was not
asked for between two sweeps is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_BY_VALUE = (str, int, bool, frozenset)
_FIRST_SWEEP = 4096


class _Entry:
    __slots__ = ("arguments", "result", "used")

    def __init__(self, arguments: tuple[Any, ...], result: Any, used: int) -> None:
        self.arguments = arguments
        self.result = result
        self.used = used


def _key(argument: Any) -> Hashable:
    """Small values by value, tuples by their elements (they are composed afresh for a call), the rest by identity."""
    if isinstance(argument, _BY_VALUE):
        return argument
    if type(argument) is tuple:
        return tuple([id(item) if not isinstance(item, str) else item for item in argument])
    return id(argument)


class Memo:
    """`memo(function, *arguments)` is `function(*arguments)`, remembered. For pure functions only."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        self._sweep = 0
        self._sweep_at = _FIRST_SWEEP

    def __call__(self, function: Callable[P, R], *arguments: P.args, **keywords: P.kwargs) -> R:
        assert not keywords, "only positional arguments are part of the key"
        key = (function, *map(_key, arguments))
        entry = self._entries.get(key)
        if entry is None:
            result = function(*arguments, **keywords)
            self._entries[key] = _Entry(arguments, result, self._sweep)
            if len(self._entries) > self._sweep_at:
                self._forget()
            return result
        entry.used = self._sweep
        found: R = entry.result
        return found

    def _forget(self) -> None:
        """Keeps what was asked for since the last sweep. The next one comes after as much again as half of that."""
        self._entries = {key: entry for key, entry in self._entries.items() if entry.used == self._sweep}
        self._sweep += 1
        self._sweep_at = _FIRST_SWEEP + len(self._entries) + len(self._entries) // 2

    def __len__(self) -> int:
        return len(self._entries)
