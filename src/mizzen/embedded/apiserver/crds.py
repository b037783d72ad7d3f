"""CustomResourceDefinitions: whether one can be served, and the status that says so.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
"""

from __future__ import annotations

from mizzen.embedded.apiserver import cel_rules, errors
from mizzen.embedded.apiserver.errors import Cause
from mizzen.kube.api import JSON

CLEANUP_FINALIZER = "customresourcecleanup.apiextensions.k8s.io"


def problems(crd: JSON) -> list[Cause]:
    """Why this definition cannot be accepted."""
    spec = crd.get("spec") or {}
    names, versions = spec.get("names") or {}, spec.get("versions") or []
    causes = [errors.required(f"spec.names.{each}") for each in ("plural", "kind") if not names.get(each)]
    if not spec.get("group"):
        causes.append(errors.required("spec.group"))
    if spec.get("scope") not in ("Namespaced", "Cluster"):
        causes.append(errors.required("spec.scope"))
    wanted = f"{names.get('plural')}.{spec.get('group')}"
    if crd["metadata"]["name"] != wanted:
        why = 'must be spec.names.plural+"."+spec.group'
        causes.append(errors.invalid_value("metadata.name", crd["metadata"]["name"], why))
    if sum(1 for version in versions if version.get("storage")) != 1:
        why = "must have exactly one version marked as storage version"
        causes.append(errors.invalid_value("spec.versions", [each.get("name") for each in versions], why))
    for index, version in enumerate(versions):
        causes += [] if version.get("name") else [errors.required(f"spec.versions[{index}].name")]
        schema = (version.get("schema") or {}).get("openAPIV3Schema") or {}
        causes += _null_properties(schema, f"spec.versions[{index}].schema.openAPIV3Schema")
        causes += cel_rules.problems(schema, f"spec.versions[{index}].schema.openAPIV3Schema")
    if (spec.get("conversion") or {}).get("strategy") == "Webhook":
        causes.append(
            Cause(
                "FieldValueNotSupported",
                "spec.conversion.strategy",
                'Unsupported value: "Webhook": this server converts with strategy "None" only',
            )
        )
    return causes


def _null_properties(schema: JSON, path: str) -> list[Cause]:
    """Go reads a null schema as one that says nothing; whoever wrote it meant something else."""
    causes: list[Cause] = []
    for name, each in (schema.get("properties") or {}).items():
        below = f"{path}.properties[{name}]"
        causes += [errors.required(below)] if each is None else _null_properties(each, below)
    items = schema.get("items")
    return causes + (_null_properties(items, f"{path}.items") if isinstance(items, dict) else [])


def warnings(crd: JSON) -> list[str]:
    """What the writer of a definition should know about what is not honoured."""
    schemas = ((version.get("schema") or {}).get("openAPIV3Schema") or {} for version in crd["spec"]["versions"])
    return [warning for schema in schemas for warning in cel_rules.not_evaluated(schema)]


def accept(crd: JSON, old: JSON | None, now: str) -> None:
    """Fill in the names left out, and the status of a definition that is served from now on."""
    spec, names = crd["spec"], crd["spec"]["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})
    finalizers = crd["metadata"].setdefault("finalizers", [])
    if "deletionTimestamp" not in crd["metadata"] and CLEANUP_FINALIZER not in finalizers:
        finalizers.append(CLEANUP_FINALIZER)
    status: JSON = {**((old or {}).get("status") or {}), **(crd.get("status") or {})}
    crd["status"] = status
    before = status.get("storedVersions") or []
    stored = [version["name"] for version in spec["versions"] if version.get("storage")]
    status["storedVersions"] = [*before, *(each for each in stored if each not in before)]
    status["acceptedNames"] = dict(names)
    if not status.get("conditions"):
        status["conditions"] = [
            _condition("NamesAccepted", "NoConflicts", "no conflicts found", now),
            _condition("Established", "InitialNamesAccepted", "the initial names have been accepted", now),
        ]


def _condition(kind: str, reason: str, message: str, now: str) -> JSON:
    return {"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message}
