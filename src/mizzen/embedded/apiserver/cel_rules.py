"""`x-kubernetes-validations`: the CEL rules of a CustomResourceDefinition, on creates and on changes.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mizzen.embedded.apiserver.cel_programs import BadExpression, CannotEvaluate, Expression, expression, optional
from mizzen.embedded.apiserver.cel_values import ABSENT, as_cel, old_item
from mizzen.embedded.apiserver.errors import Cause, invalid_value
from mizzen.embedded.apiserver.schema_definitions import Node
from mizzen.embedded.apiserver.schema_structural import RULES, field_schema
from mizzen.kube.api import JSON

_REASONS = ("FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")
_WORDS = {
    "FieldValueInvalid": "Invalid value",
    "FieldValueForbidden": "Forbidden",
    "FieldValueRequired": "Required value",
    "FieldValueDuplicate": "Duplicate value",
}
_ROOT_METADATA = ("name", "generateName")


def check(schema: Node, obj: JSON, old: JSON | None) -> Iterator[Cause]:
    """Which rules do not hold. Only for objects that satisfy the rest of the schema."""
    yield from _check(_with_head(schema), _root(obj), ABSENT if old is None else _root(old), "")


def _root(obj: JSON) -> JSON:
    """Rules see name and generateName, and nothing else of the metadata."""
    metadata = {name: obj["metadata"][name] for name in _ROOT_METADATA if name in obj["metadata"]}
    return {**obj, "metadata": metadata}


def _with_head(schema: Node) -> Node:
    metadata = {"type": "object", "properties": {name: {"type": "string"} for name in _ROOT_METADATA}}
    text = {"type": "string"}
    head = {"apiVersion": text, "kind": text, "metadata": metadata}
    return {**schema, "properties": {**(schema.get("properties") or {}), **head}}


def _check(node: Node, value: Any, old: Any, path: str) -> Iterator[Cause]:
    for rule in node.get(RULES) or ():
        yield from _Rule(rule, node, path).check(value, old)
    if isinstance(value, dict):
        for key, item in value.items():
            found = field_schema(node, key)
            if found:
                before = old.get(key, ABSENT) if isinstance(old, dict) else ABSENT
                yield from _check(found, item, before, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and isinstance(node.get("items"), dict):
        for index, item in enumerate(value):
            yield from _check(node["items"], item, old_item(node, item, old), f"{path}[{index}]")


@dataclass(frozen=True, slots=True)
class _Rule:
    rule: JSON
    node: Node
    path: str

    def check(self, value: Any, old: Any) -> Iterator[Cause]:
        program = expression(self.rule["rule"])
        transition, optional_old = "oldSelf" in program.variables, bool(self.rule.get("optionalOldSelf"))
        if program.missing or (transition and old is ABSENT and not optional_old):
            return
        if not transition and old is not ABSENT and old == value:
            return  # what was there before the rule may stay: https://kep.k8s.io/4008
        variables = {"self": as_cel(self.node, value)}
        if transition:
            before = None if old is ABSENT else as_cel(self.node, old)
            variables["oldSelf"] = optional(before, old is not ABSENT) if optional_old else before
        try:
            if program.value(variables) is not True:
                yield self._cause(self._message(variables))
        except CannotEvaluate as error:
            yield self._cause(f"{error} evaluating rule: {self._words()}")

    def _message(self, variables: JSON) -> str:
        written = self.rule.get("messageExpression")
        if written:
            try:
                found = expression(written).value(variables)
            except (BadExpression, CannotEvaluate):
                found = ""
            if isinstance(found, str) and found.strip() and "\n" not in found:
                return found
        return self._words()

    def _words(self) -> str:
        return str(self.rule.get("message") or f"failed rule: {self.rule['rule']}").strip()

    def _cause(self, message: str) -> Cause:
        reason = self.rule.get("reason") or _REASONS[0]
        at = f"{self.path}{self.rule.get('fieldPath') or ''}".lstrip(".") or "<nil>"
        kind = '"{}": '.format(self.node.get("type") or "") if reason in (_REASONS[0], _REASONS[3]) else ""
        return Cause(reason, at, f"{_WORDS.get(reason, 'Invalid value')}: {kind}{message}")


# -- when the definition is written --------------------------------------------------------------------------------


def problems(schema: Node, path: str) -> Iterator[Cause]:
    """Rules that do not compile."""
    for at, rule in rules(schema, path):
        if not isinstance(rule, dict) or not isinstance(rule.get("rule"), str) or not rule["rule"].strip():
            yield Cause("FieldValueRequired", f"{at}.rule", "Required value: rule is not specified")
            continue
        try:
            expression(rule["rule"])
        except BadExpression as error:
            yield invalid_value(f"{at}.rule", rule["rule"], f"compilation failed: {error}")
        if rule.get("reason") not in (None, *_REASONS):
            supported = ", ".join(f'"{each}"' for each in _REASONS)
            message = f'Unsupported value: "{rule["reason"]}": supported values: {supported}'
            yield Cause("FieldValueNotSupported", f"{at}.reason", message)


def not_evaluated(schema: Node) -> list[str]:
    """What whoever writes the definition is told: rules that call functions nobody has here."""
    found: list[tuple[str, Expression]] = []
    for at, rule in rules(schema, ""):
        try:
            found.append((at, expression(rule["rule"])))
        except BadExpression:
            continue
    return [
        f"{at.lstrip('.')}: this rule is not evaluated here, nobody has {', '.join(each.missing)}(): {each.source}"
        for at, each in found
        if each.missing
    ]


def rules(schema: Node, path: str) -> Iterator[tuple[str, Any]]:
    """All rules below a schema, with the place where each stands."""
    for index, rule in enumerate(schema.get(RULES) or ()):
        yield f"{path}.{RULES}[{index}]", rule
    for key, node in (schema.get("properties") or {}).items():
        if isinstance(node, dict):
            yield from rules(node, f"{path}.properties[{key}]")
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), dict):
            yield from rules(schema[part], f"{path}.{part}")
