"""Leaves are built and serialised once.

What a function made of an object is kept on the object itself, so that it lives exactly as long: a reflector and a
resolver that hand back the old object for equal input make an edit cost what it touches. The functions are pure, so
nothing but their arguments can change the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Out = TypeVar("Out")
_MOST = 4
"""Results per object and function: a host is served on few ports, and only one mesh configuration is in force."""


def kept(function: Callable[..., Out]) -> Callable[..., Out]:
    """Remember, on the first argument (a model), the results for the last few choices of the other arguments."""
    name = f"{function.__module__}.{function.__qualname__}"

    @wraps(function)
    def remembering(first: Any, *rest: Any) -> Out:
        results: list[tuple[tuple[Any, ...], Out]] = first.__dict__.get(name, ())
        for arguments, result in results:
            if arguments == rest:
                return result
        result = function(first, *rest)
        first.__dict__[name] = [(rest, result), *results][:_MOST]
        return result

    return remembering
