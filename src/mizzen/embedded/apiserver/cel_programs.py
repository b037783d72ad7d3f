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

from mizzen.embedded.apiserver import cel_source
from mizzen.embedded.apiserver.cel_functions import FUNCTIONS, Function

_NAMES = """
size has contains startsWith endsWith matches all exists exists_one map filter int uint double string bytes type
duration timestamp dyn min max getFullYear getMonth getDayOfMonth getDate getDayOfWeek getDayOfYear getHours
getMinutes getSeconds getMilliseconds optional.of optional.none optional.ofNonZeroValue hasValue value orValue or
"""
_NATIVE = frozenset(_NAMES.split())
_TYPES = "int uint double string bytes bool list map null_type type dyn google"
_CONSTANTS = frozenset(f"{_TYPES} optional math sets".split())
"""Names that the language or a library brings, and that stand in an expression as variables do."""


class BadExpression(Exception):
    """It does not compile; the text says why."""


class CannotEvaluate(Exception):
    """It compiled, but fails on these values; the text says why."""


class Expression:
    """`missing` are the functions it calls that nobody has here: it cannot be evaluated."""

    def __init__(self, source: str) -> None:
        try:
            self._program = _cel().compile(cel_source.plain(source))
        except ValueError as error:
            raise BadExpression(str(error).splitlines()[0]) from None
        self.source = source
        self.variables = frozenset(self._program.variables())
        called = (name for name in self._program.functions() if name[:1].isalpha())
        self.missing = sorted(name for name in called if name not in _known())

    def undeclared(self, declared: frozenset[str]) -> list[str]:
        """The variables that it reads and that nobody gives it."""
        known = declared | _CONSTANTS | cel_source.bound_names(self.source)
        return sorted(self.variables - known)

    def value(self, variables: Mapping[str, Any], functions: Mapping[str, Function] | None = None) -> Any:
        """`functions` come in addition to those that always are there. Raises CannotEvaluate."""
        every = {**FUNCTIONS, "optionalAt": _optional_at, **(functions or {})}
        try:
            return self._program.execute(_cel().Context(dict(variables), every))
        except KeyError as error:
            raise CannotEvaluate(f"no such key: {error.args[0]}") from None
        except Exception as error:  # the library raises what it likes: TypeError, RuntimeError …
            raise CannotEvaluate(str(error).partition(". CEL does not coerce")[0]) from None


@cache
def _known() -> frozenset[str]:
    from mizzen.embedded.apiserver.cel_authorizer import METHODS

    library = (part for name in FUNCTIONS for part in (name, name.rpartition(".")[2]))
    return _NATIVE | frozenset(library) | METHODS | {"optionalAt"}


def _optional_at(within: Any, key: Any) -> Any:
    """The step `.?key`: none if there is no such key, or nothing to look in."""
    kind = _cel().OptionalValue
    if isinstance(within, kind):
        if not within.has_value():
            return within
        within = within.value()
    if isinstance(within, list):
        return kind.of(within[key]) if isinstance(key, int) and 0 <= key < len(within) else kind.none()
    return kind.of(within[key]) if isinstance(within, dict) and key in within else kind.none()


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
