"""ValidatingAdmissionPolicies: which are bound to a write, whether their validations hold, and what follows.

https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from mizzen.embedded.apiserver import errors, matching, selectors
from mizzen.embedded.apiserver.cel_programs import CannotEvaluate
from mizzen.embedded.apiserver.operation import Operation
from mizzen.embedded.apiserver.policy_expressions import Evaluation, evaluation, typed
from mizzen.embedded.apiserver.registry import Registry
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.rights import Rights
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key
from mizzen.kube.api import JSON, ApiError

log = logging.getLogger(__name__)
POLICIES = "validatingadmissionpolicies.admissionregistration.k8s.io"
BINDINGS = "validatingadmissionpolicybindings.admissionregistration.k8s.io"
_CODES = {"Unauthorized": 401, "Forbidden": 403, "Invalid": 422, "RequestEntityTooLarge": 413}
_LONGEST_MESSAGE = 5 * 1024


class CannotConfigure(Exception):
    """A policy and its binding do not go together; the text says why."""


_Params = tuple[ResourceType | None, JSON | None]


class Violation(NamedTuple):
    message: str
    reason: str = ""


@dataclass(slots=True)
class Policies:
    store: Store
    registry: Registry
    rights: Rights

    def check(self, operation: Operation) -> None:
        """Raise what a bound policy denies; warn, or write to the log, where its binding wants that instead."""
        if matching.exempt(operation):
            return
        policies = {entry.key.name: entry.document() for entry in self.store.entries(POLICIES)}
        for entry in self.store.entries(BINDINGS) if policies else ():
            binding = entry.document()
            policy = policies.get(binding["spec"]["policyName"])
            if policy is not None and self._concerns(policy, binding, operation):
                self._enforce(policy, binding, operation)

    def _concerns(self, policy: JSON, binding: JSON, operation: Operation) -> bool:
        wanted = (policy["spec"]["matchConstraints"], binding["spec"].get("matchResources") or {})
        return all(matching.constraints_match(self.store, each, operation) for each in wanted)

    def _enforce(self, policy: JSON, binding: JSON, operation: Operation) -> None:
        names = f"ValidatingAdmissionPolicy '{policy['metadata']['name']}' with binding '{binding['metadata']['name']}'"
        for violation in self._violations(policy, binding, operation):
            for action in binding["spec"].get("validationActions") or ("Deny",):
                if action == "Deny":
                    raise _denial(operation, f"{names} denied request: {violation.message}", violation.reason)
                if action == "Warn":
                    operation.call.warnings.append(f"Validation failed for {names}: {violation.message}")
                if action == "Audit":
                    log.warning(
                        "audit: %s of %s: %s: %s", operation.verb, _subject(operation), names, violation.message
                    )

    def _violations(self, policy: JSON, binding: JSON, operation: Operation) -> Iterator[Violation]:
        """What does not hold; errors count as such unless the policy's failurePolicy lets them pass."""
        spec = policy["spec"]
        strict = spec.get("failurePolicy") != "Ignore"
        values = evaluation(operation, self.rights, self._namespace(operation))
        values.variables = {each["name"]: each["expression"] for each in spec.get("variables") or ()}
        try:
            if not values.all_hold(spec.get("matchConditions") or ()):
                return
            for kind, params in self._params(spec, binding["spec"], operation):
                values = replace(values, values={**values.values, "params": typed(kind, params)}, _found={})
                yield from _broken(spec, values, strict)
        except CannotEvaluate as error:
            if strict:
                yield Violation(str(error))
        except CannotConfigure as error:
            if strict:
                yield Violation(f"failed to configure binding: {error}")

    def _namespace(self, operation: Operation) -> JSON | None:
        if not operation.namespace:
            return None
        entry = self.store.get(Key("namespaces", "", operation.namespace))
        return entry.document() if entry else None

    def conditions_hold(self, holder: JSON, operation: Operation) -> bool:
        """Whether all `matchConditions` of a webhook hold. Raises CannotEvaluate."""
        conditions = holder.get("matchConditions")
        return not conditions or evaluation(operation, self.rights).all_hold(conditions)

    # -- params ----------------------------------------------------------------------------------------------------

    def _params(
        self, spec: JSON, binding: JSON, operation: Operation
    ) -> Iterator[tuple[ResourceType | None, JSON | None]]:
        """Every object that the validations are evaluated with; (None, None) once where there is none to have."""
        wanted, reference = spec.get("paramKind"), binding.get("paramRef")
        if not wanted or not reference:
            yield None, None
            return
        kind = self.registry.find_kind(wanted["apiVersion"], wanted["kind"])
        if kind is None:
            raise CannotConfigure(f"no kind {wanted['kind']} in {wanted['apiVersion']}, which paramKind names")
        found = list(self._referenced(kind, reference, operation))
        if not found and reference.get("parameterNotFoundAction") != "Allow":
            raise CannotConfigure("no params found for policy binding with `Deny` parameterNotFoundAction")
        yield from ((kind, each) for each in found)

    def _referenced(self, kind: ResourceType, reference: JSON, operation: Operation) -> Iterator[JSON]:
        namespace = ""
        if kind.resource.namespaced:
            namespace = reference.get("namespace") or operation.namespace
            if not namespace:
                raise CannotConfigure(
                    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
                )
        requirements = selectors.requirements_of(reference.get("selector"))
        for entry in self.store.entries(kind.storage, namespace):
            named = reference.get("name") in (None, "", entry.key.name)
            if named and selectors.matches_labels(requirements, entry.labels):
                yield {**entry.document(), "apiVersion": kind.resource.api_version}


def _broken(spec: JSON, values: Evaluation, strict: bool) -> Iterator[Violation]:
    for each in spec.get("validations") or ():
        try:
            if not values.holds(each["expression"]):
                yield Violation(_message(each, values), each.get("reason") or "")
        except CannotEvaluate as error:
            if strict:
                yield Violation(f"expression '{each['expression'].strip()}' resulted in error: {error}")
    for each in spec.get("auditAnnotations") or ():
        yield from _annotation(each, values, strict)


def _annotation(written: JSON, values: Evaluation, strict: bool) -> Iterator[Violation]:
    """There is no audit log but the server's own: that is where annotations go."""
    try:
        found = values.value(written["valueExpression"])
    except CannotEvaluate as error:
        if strict:
            yield Violation(f"valueExpression '{written['valueExpression']}' resulted in error: {error}")
        return
    if isinstance(found, str) and found.strip():
        log.info("audit: %s: %s", written["key"], found.strip())


def _message(validation: JSON, values: Evaluation) -> str:
    if validation.get("messageExpression"):
        try:
            found = values.value(validation["messageExpression"])
        except CannotEvaluate as error:
            log.debug("messageExpression %s: %s", validation["messageExpression"], error)
            found = None
        if isinstance(found, str) and found.strip() and "\n" not in found and len(found) <= _LONGEST_MESSAGE:
            return found.strip()
    return str(validation.get("message") or f"failed expression: {validation['expression'].strip()}").strip()


def _denial(operation: Operation, message: str, reason: str) -> ApiError:
    error = errors.forbidden(operation.kind.resource, operation.name, message, [errors.Cause("", "", message)])
    reason = reason or "Invalid"
    status = {**error.status, "reason": reason, "code": _CODES[reason]}
    return errors.failure(status["code"], reason, status["message"], status["details"])


def _subject(operation: Operation) -> str:
    place = f" in {operation.namespace}" if operation.namespace else ""
    return f"{operation.kind.resource.plural} {operation.name!r}{place} by {operation.call.user.name!r}"
