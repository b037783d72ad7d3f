"""Leaves are built and serialised once.

What a function made of an object is kept on the object itself, so that it lives exactly as long: a reflector and a
resolver that hand back the old object for equal input make an edit cost what it touches. Objects are compared by
identity, plain values by equality; nothing else can change the answer, because the functions are pure.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Out = TypeVar("Out")


def kept(function: Callable[..., Out]) -> Callable[..., Out]:
    """Remember, on the first argument (a model), the last result for each choice of the plain arguments."""
    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def remembering(first: Any, *rest: Any) -> Out:
        results: dict[Any, tuple[tuple[Any, ...], Out]] = first.__dict__.setdefault(name, {})
        plain = tuple([each for each in rest if isinstance(each, str | int)])
        found = results.get(plain)
        if found is not None and all(map(_same, found[0], rest)):
            return found[1]
        result = function(first, *rest)
        results[plain] = (rest, result)
        return result

    return remembering


def _same(one: object, other: object) -> bool:
    return one is other or (isinstance(one, str | int) and one == other)
