"""Whether a policy, its binding, or a webhook's match conditions make sense: told to whoever writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from mizzen.embedded.apiserver.cel_programs import BadExpression, expression
from mizzen.embedded.apiserver.errors import Cause, invalid_value, required
from mizzen.kube.api import JSON

ALWAYS = frozenset({"object", "oldObject", "request", "namespaceObject", "authorizer"})
"""What every expression may name; policies have `variables` and, with a paramKind, `params` besides."""
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")
_ACTIONS = ("Deny", "Warn", "Audit")
_REASONS = ("Unauthorized", "Forbidden", "Invalid", "RequestEntityTooLarge")
Names = frozenset[str]


def policy(obj: JSON) -> Iterator[Cause]:
    """Of a ValidatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    yield from _constraints(spec)
    names = ALWAYS | ({"params"} if spec.get("paramKind") else frozenset())
    yield from match_conditions(spec, "spec", names)
    yield from _variables(spec.get("variables") or (), names | {"variables"})
    yield from _validations(spec, names | {"variables"})
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        yield required("spec.validations", "validations or auditAnnotations must contain at least one item")
    if spec.get("failurePolicy") not in (None, "Fail", "Ignore"):
        yield _unsupported("spec.failurePolicy", spec["failurePolicy"], ("Fail", "Ignore"))
    for key in ("apiVersion", "kind") if spec.get("paramKind") is not None else ():
        if not spec["paramKind"].get(key):
            yield required(f"spec.paramKind.{key}")


def _constraints(spec: JSON) -> Iterator[Cause]:
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield required("spec.matchConstraints")
    elif not constraints.get("resourceRules"):
        yield required("spec.matchConstraints.resourceRules")


def _variables(variables: Iterable[JSON], names: Names) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, each in enumerate(variables):
        name, path = each.get("name") or "", f"spec.variables[{index}]"
        if not _IDENTIFIER.fullmatch(name):
            yield invalid_value(f"{path}.name", name, "name is not a valid CEL identifier")
        elif name in seen:
            yield Cause("FieldValueDuplicate", f"{path}.name", f'Duplicate value: "{name}"')
        seen.add(name)
        yield from _compiles(f"{path}.expression", each.get("expression"), names)


def _validations(spec: JSON, names: Names) -> Iterator[Cause]:
    for index, each in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{index}]"
        yield from _compiles(f"{path}.expression", each.get("expression"), names)
        if each.get("messageExpression"):
            yield from _compiles(f"{path}.messageExpression", each["messageExpression"], names)
        if "\n" in (each.get("message") or "").strip():
            yield invalid_value(f"{path}.message", each["message"], "message must not contain line breaks")
        if each.get("reason") not in (None, "", *_REASONS):
            yield _unsupported(f"{path}.reason", each["reason"], _REASONS)
    for index, each in enumerate(spec.get("auditAnnotations") or ()):
        path = f"spec.auditAnnotations[{index}]"
        if not each.get("key"):
            yield required(f"{path}.key")
        yield from _compiles(f"{path}.valueExpression", each.get("valueExpression"), names)


def match_conditions(holder: JSON, path: str, names: Names = ALWAYS) -> Iterator[Cause]:
    """Of a policy or of one webhook."""
    seen: set[str] = set()
    for index, each in enumerate(holder.get("matchConditions") or ()):
        at = f"{path}.matchConditions[{index}]"
        name = each.get("name") or ""
        if not name:
            yield required(f"{at}.name")
        elif name in seen:
            yield Cause("FieldValueDuplicate", f"{at}.name", f'Duplicate value: "{name}"')
        seen.add(name)
        yield from _compiles(f"{at}.expression", each.get("expression"), names)


def binding(obj: JSON) -> Iterator[Cause]:
    """Of a ValidatingAdmissionPolicyBinding."""
    spec = obj.get("spec") or {}
    if not spec.get("policyName"):
        yield required("spec.policyName")
    actions = spec.get("validationActions") or []
    if not actions:
        yield required("spec.validationActions", "at least one validation action is required")
    for index, each in enumerate(actions):
        if each not in _ACTIONS:
            yield _unsupported(f"spec.validationActions[{index}]", each, _ACTIONS)
        if each in actions[:index]:
            yield Cause("FieldValueDuplicate", f"spec.validationActions[{index}]", f'Duplicate value: "{each}"')
    if {"Deny", "Warn"} <= set(actions):
        why = "must not contain both Deny and Warn: the same failure would be told twice"
        yield invalid_value("spec.validationActions", str(actions), why)
    if spec.get("paramRef") is not None:
        yield from _reference(spec["paramRef"])


def _reference(reference: JSON) -> Iterator[Cause]:
    path = "spec.paramRef"
    if bool(reference.get("name")) == (reference.get("selector") is not None):
        why = "one of name or selector must be specified, and not both"
        yield Cause("FieldValueForbidden", path, f"Forbidden: {why}") if reference.get("name") else required(path, why)
    action = reference.get("parameterNotFoundAction")
    if action is None:
        yield required(f"{path}.parameterNotFoundAction")
    elif action not in ("Allow", "Deny"):
        yield _unsupported(f"{path}.parameterNotFoundAction", action, ("Allow", "Deny"))


def _compiles(path: str, source: str | None, names: Names) -> Iterator[Cause]:
    if not (source or "").strip():
        yield required(path)
        return
    assert source is not None
    try:
        program = expression(source)
    except BadExpression as error:
        yield invalid_value(path, source, f"compilation failed: {error}")
        return
    for name in program.undeclared(names):
        yield invalid_value(path, source, f"compilation failed: undeclared reference to '{name}'")
    for name in program.missing:
        yield invalid_value(path, source, f"compilation failed: this server has no function {name}()")


def _unsupported(path: str, value: str, supported: tuple[str, ...]) -> Cause:
    listed = ", ".join(f'"{each}"' for each in supported)
    return Cause("FieldValueNotSupported", path, f'Unsupported value: "{value}": supported values: {listed}')
