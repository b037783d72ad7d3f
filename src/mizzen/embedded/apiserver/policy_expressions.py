"""What CEL expressions of policies and match conditions see, and what comes of them.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mizzen.embedded.apiserver import cel_authorizer, cel_source, schema
from mizzen.embedded.apiserver.bodies import structural_schema
from mizzen.embedded.apiserver.cel_functions import Function
from mizzen.embedded.apiserver.cel_programs import BadExpression, CannotEvaluate, expression
from mizzen.embedded.apiserver.cel_values import as_cel
from mizzen.embedded.apiserver.operation import Operation
from mizzen.embedded.apiserver.rbac import Action
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.rights import Rights
from mizzen.embedded.apiserver.schema_definitions import ANYTHING
from mizzen.kube.api import JSON

_VERBS = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete", "CONNECT": "connect"}


def typed(kind: ResourceType | None, obj: JSON | None) -> Any:
    """The object as CEL sees it: its fields typed by its schema."""
    if obj is None or kind is None:
        return obj
    node = structural_schema(kind) or schema.built_in(kind.resource) or ANYTHING
    return as_cel(node, obj)


@dataclass(slots=True)
class Evaluation:
    """One operation's values; `variables` are a policy's, evaluated when an expression first reads them."""

    values: JSON
    functions: Mapping[str, Function]
    variables: Mapping[str, str] = field(default_factory=dict)
    _found: JSON = field(default_factory=dict)

    def value(self, source: str) -> Any:
        """Raises CannotEvaluate."""
        self._evaluate_variables(source)
        try:
            program = expression(source)
        except BadExpression as error:
            raise CannotEvaluate(str(error)) from None
        return program.value({**self.values, "variables": self._found}, self.functions)

    def _evaluate_variables(self, source: str) -> None:
        """Those that `source` reads. One that fails is missing: that is an error where it is read, and only there."""
        for path in cel_source.field_paths(source, "variables"):
            name = path[0] if path else ""
            if name in self.variables and name not in self._found:
                try:
                    self._found[name] = self.value(self.variables[name])
                except CannotEvaluate:
                    continue

    def holds(self, source: str) -> bool:
        """Raises CannotEvaluate, also where the value is no truth value."""
        value = self.value(source)
        if not isinstance(value, bool):
            raise CannotEvaluate("the expression does not evaluate to bool")
        return value

    def all_hold(self, conditions: Iterable[JSON]) -> bool:
        """Whether no match condition is false. Raises CannotEvaluate only where none is."""
        failures: list[str] = []
        for each in conditions:
            try:
                if not self.holds(each["expression"]):
                    return False
            except CannotEvaluate as error:
                failures.append(f"match condition {each.get('name', '')!r} cannot be evaluated: {error}")
        if failures:
            raise CannotEvaluate(failures[0])
        return True


def evaluation(operation: Operation, rights: Rights, namespace: JSON | None = None) -> Evaluation:
    """Of one operation, without params and variables."""
    kind = operation.kind
    values = {
        "object": typed(kind, operation.obj),
        "oldObject": typed(kind, operation.old),
        "request": operation.request(),
        "namespaceObject": namespace,
        "authorizer": cel_authorizer.root(operation.call.user, _action(operation)),
    }
    return Evaluation(values, cel_authorizer.functions(rights))


def _action(operation: Operation) -> Action:
    resource, part = operation.kind.resource, operation.subresource
    plural = f"{resource.plural}/{part}" if part else resource.plural
    return Action(_VERBS[operation.verb], resource.group, plural, operation.namespace, operation.name)
