"""CEL expressions: compiled once, with the functions that Kubernetes adds to the language.

https://kubernetes.io/docs/reference/using-api/cel/
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Mapping
from functools import cache, lru_cache
from types import ModuleType
from typing import Any

from mizzen.embedded.apiserver.cel_functions import FUNCTIONS

_NAMES = """
size has contains startsWith endsWith matches all exists exists_one map filter int uint double string bytes type
duration timestamp dyn min max getFullYear getMonth getDayOfMonth getDate getDayOfWeek getDayOfYear getHours
getMinutes getSeconds getMilliseconds optional.of optional.none optional.ofNonZeroValue hasValue value orValue or
"""
_NATIVE = frozenset(_NAMES.split())


class BadExpression(Exception):
    """It does not compile; the text says why."""


class CannotEvaluate(Exception):
    """It compiled, but fails on these values; the text says why."""


class Expression:
    """`missing` are the functions it calls that nobody has here: it cannot be evaluated."""

    def __init__(self, source: str) -> None:
        try:
            self._program = _cel().compile(source)
        except ValueError as error:
            raise BadExpression(str(error).splitlines()[0]) from None
        self.source = source
        self.variables = frozenset(self._program.variables())
        called = (name for name in self._program.functions() if name[:1].isalpha())
        self.missing = sorted(name for name in called if name not in _NATIVE and name not in FUNCTIONS)

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Raises CannotEvaluate."""
        try:
            return self._program.execute(_cel().Context(dict(variables), FUNCTIONS))
        except Exception as error:  # the library raises what it likes: KeyError, TypeError, RuntimeError …
            raise CannotEvaluate(str(error)) from None


def optional(value: Any, present: bool) -> Any:
    """A value of CEL's optional type."""
    kind = _cel().OptionalValue
    return kind.of(value) if present else kind.none()


@lru_cache(maxsize=4096)
def expression(source: str) -> Expression:
    """Raises BadExpression."""
    return Expression(source)


@cache
def _cel() -> ModuleType:
    """The native part of the package alone: the package itself imports its command line, and 15 MB with it."""
    name = "cel.cel"
    package = importlib.util.find_spec("cel")
    assert package is not None, "common-expression-language is not installed"
    found = importlib.machinery.PathFinder.find_spec(name, package.submodule_search_locations)
    assert found is not None and found.loader is not None
    module = sys.modules.setdefault(name, importlib.util.module_from_spec(found))
    found.loader.exec_module(module)
    return module
