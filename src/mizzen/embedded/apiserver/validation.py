"""What must hold of every object, and the few rules of single kinds that clients depend on.

Types, required fields and enumerations come from the schemas; this is what schemas do not say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mizzen.embedded.apiserver import cel_rules, errors, pods, schema_validation, validation_kinds
from mizzen.embedded.apiserver import validation_names as check_names
from mizzen.embedded.apiserver.bodies import structural_schema
from mizzen.embedded.apiserver.errors import Cause
from mizzen.embedded.apiserver.operation import Operation
from mizzen.kube.api import JSON

_FREE_NAMES = frozenset({"rbac.authorization.k8s.io", "certificates.k8s.io"})
_NAME_RULES = {"namespaces": check_names.dns_label, "services": check_names.dns_1035_label}
_ANNOTATION_BYTES = 256 * 1024


def check(operation: Operation) -> None:
    """Raises 422 with every cause that was found."""
    causes = list(_causes(operation))
    if causes:
        raise errors.invalid(operation.kind.resource, operation.name, causes)


def require_spec(operation: Operation) -> None:
    """Raises 422 if there is no `spec` object to work with."""
    if not isinstance((operation.obj or {}).get("spec"), dict):
        raise errors.invalid(operation.kind.resource, operation.name, [errors.required("spec")])


def _causes(operation: Operation) -> Iterator[Cause]:
    obj, old = operation.obj, operation.old
    assert obj is not None
    if old is None:
        yield from _name_causes(operation)
    yield from _map_causes(obj["metadata"])
    yield from _finalizer_causes(old, obj)
    structural = structural_schema(operation.kind)
    if structural is not None:
        causes = schema_validation.validate(structural, obj)
        yield from causes or cel_rules.check(structural, obj, old)
    elif not operation.subresource and old is None:
        yield from validation_kinds.validate_create(operation.kind.resource, obj)
    elif not operation.subresource and old is not None:
        yield from validation_kinds.validate_update(operation.kind.resource, old, obj)
    rule = _UPDATE_RULES.get(operation.kind.storage)
    if rule and old is not None and not operation.subresource:
        yield from rule(old, obj)


def _name_causes(operation: Operation) -> Iterator[Cause]:
    if operation.kind.resource.group not in _FREE_NAMES:
        rule = _NAME_RULES.get(operation.kind.storage, check_names.dns_subdomain)
        yield from rule("metadata.name", operation.name)


def _map_causes(metadata: JSON) -> Iterator[Cause]:
    yield from check_names.labels("metadata.labels", metadata.get("labels"))
    total = 0
    for key, value in (metadata.get("annotations") or {}).items():
        yield from check_names.label_key("metadata.annotations", key.lower())
        total += len(key) + len(value)
    if total > _ANNOTATION_BYTES:
        why = f"may not be more than {_ANNOTATION_BYTES} bytes"
        yield Cause("FieldValueTooLong", "metadata.annotations", f"Too long: {why}")


def _finalizer_causes(old: JSON | None, new: JSON) -> Iterator[Cause]:
    if old is None or "deletionTimestamp" not in old["metadata"]:
        return
    added = set(new["metadata"].get("finalizers") or ()) - set(old["metadata"].get("finalizers") or ())
    if added:
        why = f"no new finalizers can be added if the object is being deleted, found new finalizers {sorted(added)}"
        yield Cause("FieldValueForbidden", "metadata.finalizers", f"Forbidden: {why}")


def _fixed(path: str) -> Callable[[JSON, JSON], Iterator[Cause]]:
    def rule(old: JSON, new: JSON) -> Iterator[Cause]:
        if _at(old, path) != _at(new, path):
            yield errors.invalid_value(path, _at(new, path), "field is immutable")

    return rule


def _at(obj: JSON, path: str) -> object:
    value: object = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _immutable_data(old: JSON, new: JSON) -> Iterator[Cause]:
    if old.get("immutable") and any(old.get(key) != new.get(key) for key in ("data", "binaryData", "immutable")):
        yield Cause("FieldValueForbidden", "data", "Forbidden: field is immutable when `immutable` is set")


def _secret(old: JSON, new: JSON) -> Iterator[Cause]:
    yield from _fixed("type")(old, new)
    yield from _immutable_data(old, new)


def _job(old: JSON, new: JSON) -> Iterator[Cause]:
    yield from _fixed("spec.selector")(old, new)
    if _at(old, "spec.template.spec.containers") != _at(new, "spec.template.spec.containers"):
        yield errors.invalid_value("spec.template", "…", "field is immutable")


def _claim(old: JSON, new: JSON) -> Iterator[Cause]:
    """What is asked for may grow, and the volume may come; nothing else changes."""
    free = ("resources", "volumeName", "volumeAttributesClassName")
    before, after = ({key: value for key, value in each["spec"].items() if key not in free} for each in (old, new))
    if before != after:
        why = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        yield Cause("FieldValueForbidden", "spec", f"Forbidden: {why}")


_UPDATE_RULES: dict[str, Callable[[JSON, JSON], Iterator[Cause]]] = {
    "pods": lambda old, new: iter(pods.check_update(old, new)),
    "configmaps": _immutable_data,
    "secrets": _secret,
    "persistentvolumeclaims": _claim,
    "deployments.apps": _fixed("spec.selector"),
    "replicasets.apps": _fixed("spec.selector"),
    "daemonsets.apps": _fixed("spec.selector"),
    "statefulsets.apps": _fixed("spec.selector"),
    "jobs.batch": _job,
    "rolebindings.rbac.authorization.k8s.io": _fixed("roleRef"),
    "clusterrolebindings.rbac.authorization.k8s.io": _fixed("roleRef"),
    "storageclasses.storage.k8s.io": _fixed("provisioner"),
    "customresourcedefinitions.apiextensions.k8s.io": _fixed("spec.group"),
}
