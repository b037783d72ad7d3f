"""What must hold of every object, and the few rules of single kinds that clients depend on.

Types, required fields and enumerations come from the schemas; this is what schemas do not say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mizzen.embedded.apiserver import errors, pods, schema_validation
from mizzen.embedded.apiserver.bodies import structural_schema
from mizzen.embedded.apiserver.errors import Cause
from mizzen.embedded.apiserver.operation import Operation
from mizzen.kube.api import JSON

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_QUALIFIED = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    "an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_DNS_LABEL_KINDS = frozenset({"namespaces", "services"})
_FREE_NAMES = frozenset({"rbac.authorization.k8s.io", "certificates.k8s.io"})
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
        yield from schema_validation.validate(structural, obj)
    rule = _UPDATE_RULES.get(operation.kind.storage)
    if rule and old is not None and not operation.subresource:
        yield from rule(old, obj)


def _name_causes(operation: Operation) -> Iterator[Cause]:
    name, kind = operation.name, operation.kind
    if kind.resource.group in _FREE_NAMES:
        return
    if kind.storage in _DNS_LABEL_KINDS:
        if len(name) > 63 or not _LABEL.fullmatch(name):
            yield errors.invalid_value("metadata.name", name, _LABEL_RULE)
    elif len(name) > 253 or not _SUBDOMAIN.fullmatch(name):
        yield errors.invalid_value("metadata.name", name, _SUBDOMAIN_RULE)


def _map_causes(metadata: JSON) -> Iterator[Cause]:
    for key, value in (metadata.get("labels") or {}).items():
        yield from _key_causes("metadata.labels", key)
        if not isinstance(value, str) or len(value) > 63 or not _VALUE.fullmatch(value):
            yield errors.invalid_value("metadata.labels", value, _VALUE_RULE)
    total = 0
    for key, value in (metadata.get("annotations") or {}).items():
        yield from _key_causes("metadata.annotations", key)
        total += len(key) + len(str(value))
    if total > _ANNOTATION_BYTES:
        why = f"may not be more than {_ANNOTATION_BYTES} bytes"
        yield Cause("FieldValueTooLong", "metadata.annotations", f"Too long: {why}")


def _key_causes(field: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    good = len(name) <= 63 and _QUALIFIED.fullmatch(name) and (not slash or _SUBDOMAIN.fullmatch(prefix.lower()))
    if not good:
        yield errors.invalid_value(field, key, _KEY_RULE)


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


_UPDATE_RULES: dict[str, Callable[[JSON, JSON], Iterator[Cause]]] = {
    "pods": lambda old, new: iter(pods.check_update(old, new)),
    "configmaps": _immutable_data,
    "secrets": _secret,
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
