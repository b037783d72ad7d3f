"""What must hold of each built-in kind beyond types and metadata: the checks that users meet, in Kubernetes' words.

System kinds (events, leases, endpoints) and status are not judged: only the cluster's own parts write them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from mizzen.embedded.apiserver import certificate_requests, policy_checks, schema_validation
from mizzen.embedded.apiserver import validation_names as check
from mizzen.embedded.apiserver.errors import Cause, invalid_value, required
from mizzen.embedded.apiserver.schema_definitions import Node
from mizzen.embedded.apiserver.validation_network import network_policy
from mizzen.embedded.apiserver.validation_pod import pod_spec
from mizzen.embedded.apiserver.validation_service import ingress, service
from mizzen.kube.api import JSON, Resource

Rule = Callable[[JSON], Iterator[Cause]]
_MAX_DATA = 1024 * 1024
_SET_FIELDS = frozenset(
    {"replicas", "ordinals", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "minReadySeconds"}
)


def validate_create(resource: Resource, obj: JSON, schema: Node | None = None) -> list[Cause]:
    """What is wrong with a defaulted object."""
    if schema is not None:
        return schema_validation.validate(schema, obj)
    rule = _RULES.get((resource.group, resource.kind))
    return list(rule(obj)) if rule else []


def validate_update(resource: Resource, old: JSON, new: JSON, schema: Node | None = None) -> list[Cause]:
    """The same, and what may not change."""
    causes = validate_create(resource, new, schema)
    if schema is None and (resource.group, resource.kind) == ("apps", "StatefulSet"):
        causes += _stateful_set_update(old.get("spec") or {}, new.get("spec") or {})
    return causes


def _stateful_set_update(old: JSON, new: JSON) -> list[Cause]:
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    if changed <= _SET_FIELDS:
        return []
    told = (
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
    )
    return [check.forbidden("spec", told)]


def _pod(obj: JSON) -> Iterator[Cause]:
    yield from pod_spec(obj.get("spec") or {}, "spec")


def _workload(kind: str) -> Rule:
    """Deployments and their like: a selector that matches the template, which restarts always."""

    def rule(obj: JSON) -> Iterator[Cause]:
        spec = obj.get("spec") or {}
        yield from check.not_negative("spec.replicas", spec.get("replicas"))
        yield from _selector(spec, kind)
        yield from _template(spec, "spec.template", ("Always",))
        if kind == "deployment":
            yield from _strategy(spec.get("strategy") or {})

    return rule


def _selector(spec: JSON, kind: str) -> Iterator[Cause]:
    selector = spec.get("selector")
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if selector is None:
        yield required("spec.selector")
        yield _mismatch(labels)
        return
    wanted, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    yield from check.labels("spec.selector.matchLabels", wanted)
    if not wanted and not expressions:
        yield Cause(
            "FieldValueInvalid",
            "spec.selector",
            "Invalid value: v1.LabelSelector{MatchLabels:map[string]string(nil), MatchExpressions:[]"
            f"v1.LabelSelectorRequirement(nil)}}: empty selector is invalid for {kind}",
        )
    if not _matches(wanted, expressions, labels or {}):
        yield _mismatch(labels)


def _mismatch(labels: dict[str, str] | None) -> Cause:
    told = f"Invalid value: {check.go_labels(labels)}: `selector` does not match template `labels`"
    return Cause("FieldValueInvalid", "spec.template.metadata.labels", told)


def _matches(wanted: dict[str, str], expressions: list[JSON], labels: dict[str, str]) -> bool:
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _expression_holds(each, labels) for each in expressions
    )


def _expression_holds(expression: JSON, labels: dict[str, str]) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False


def _template(spec: JSON, path: str, restart: tuple[str, ...]) -> Iterator[Cause]:
    template = spec.get("template") or {}
    yield from check.labels(f"{path}.labels", (template.get("metadata") or {}).get("labels"))
    yield from pod_spec(template.get("spec") or {}, f"{path}.spec", restart)


def _strategy(strategy: JSON) -> Iterator[Cause]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    yield from check.choice("spec.strategy.type", kind, ("Recreate", "RollingUpdate"))
    if kind == "Recreate" and rolling is not None:
        told = "may not be specified when strategy `type` is 'Recreate'"
        yield check.forbidden("spec.strategy.rollingUpdate", told)
    if kind == "RollingUpdate" and rolling:
        if all(rolling.get(name) in (0, "0%") for name in ("maxSurge", "maxUnavailable")):
            field = "spec.strategy.rollingUpdate.maxUnavailable"
            yield invalid_value(field, rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0")
        for name in ("maxSurge", "maxUnavailable"):
            yield from _share(f"spec.strategy.rollingUpdate.{name}", rolling.get(name))


def _share(field: str, value: int | str | None) -> Iterator[Cause]:
    """A number or a percentage."""
    if isinstance(value, str) and not re.fullmatch("[0-9]+%", value):
        told = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
        yield invalid_value(field, value, f"{told}used for validation is '[0-9]+%')")
    elif isinstance(value, int):
        yield from check.not_negative(field, value)


def _job_spec(spec: JSON, path: str) -> Iterator[Cause]:
    for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        yield from check.not_negative(f"{path}.{name}", spec.get(name))
    yield from _template(spec, f"{path}.template", ("Never", "OnFailure"))


def _job(obj: JSON) -> Iterator[Cause]:
    yield from _job_spec(obj.get("spec") or {}, "spec")


def _cron_job(obj: JSON) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    schedule = spec.get("schedule") or ""
    yield from check.needed("spec.schedule", schedule)
    if schedule and not schedule.startswith("@") and len(schedule.split()) != 5:
        told = f"expected exactly 5 fields, found {len(schedule.split())}: [{schedule}]"
        yield invalid_value("spec.schedule", schedule, told)
    yield from check.choice("spec.concurrencyPolicy", spec.get("concurrencyPolicy"), ("Allow", "Forbid", "Replace"))
    yield from _job_spec((spec.get("jobTemplate") or {}).get("spec") or {}, "spec.jobTemplate.spec")


def _config_map(obj: JSON) -> Iterator[Cause]:
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    yield from check.data_keys("data", data)
    yield from check.data_keys("binaryData", binary)
    for key in data.keys() & binary.keys():
        yield invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData")
    yield from _data_size("", sum(len(value) for value in (*data.values(), *binary.values())))


def _secret(obj: JSON) -> Iterator[Cause]:
    data = obj.get("data") or {}
    yield from check.data_keys("data", data)
    yield from _data_size("data", sum(len(value) * 3 // 4 for value in data.values()))
    if obj.get("type") == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in data:
                yield required(f"data[{key}]")


def _data_size(field: str, size: int) -> Iterator[Cause]:
    if size > _MAX_DATA:
        yield Cause("FieldValueTooLong", field, f"Too long: may not be more than {_MAX_DATA} bytes")


def _volume_claim(obj: JSON) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    yield from check.needed("spec.accessModes", spec.get("accessModes"), "at least 1 access mode is required")
    requests = (spec.get("resources") or {}).get("requests") or {}
    yield from check.needed("spec.resources[storage]", requests.get("storage"))


def _role(obj: JSON) -> Iterator[Cause]:
    for index, rule in enumerate(obj.get("rules") or ()):
        at = f"rules[{index}]"
        yield from check.needed(f"{at}.verbs", rule.get("verbs"), "verbs must contain at least one value")
        if not rule.get("nonResourceURLs"):
            yield from check.needed(
                f"{at}.apiGroups", rule.get("apiGroups"), "resource rules must supply at least one api group"
            )
            yield from check.needed(
                f"{at}.resources", rule.get("resources"), "resource rules must supply at least one resource"
            )


def _role_binding(obj: JSON) -> Iterator[Cause]:
    role = obj.get("roleRef") or {}
    yield from check.choice("roleRef.kind", role.get("kind") or "", ("ClusterRole", "Role"))
    yield from check.needed("roleRef.name", role.get("name"))
    for index, subject in enumerate(obj.get("subjects") or ()):
        at, kind = f"subjects[{index}]", subject.get("kind") or ""
        yield from check.needed(f"{at}.name", subject.get("name"))
        yield from check.choice(f"{at}.kind", kind, ("Group", "ServiceAccount", "User"))
        if kind == "ServiceAccount" and obj.get("kind") == "ClusterRoleBinding":
            yield from check.needed(f"{at}.namespace", subject.get("namespace"))


def _webhooks(obj: JSON) -> Iterator[Cause]:
    for index, hook in enumerate(obj.get("webhooks") or ()):
        at, name = f"webhooks[{index}]", hook.get("name") or ""
        yield from check.dns_subdomain(f"{at}.name", name)
        if len(name.split(".")) < 3:
            told = "should be a domain with at least three segments separated by dots"
            yield invalid_value(f"{at}.name", name, told)
        yield from _webhook(hook, at)
        yield from policy_checks.match_conditions(hook, at)


def _webhook(hook: JSON, at: str) -> Iterator[Cause]:
    effects = ("None", "NoneOnDryRun")
    if hook.get("sideEffects") is None:
        yield required(f"{at}.sideEffects", "must specify one of None, NoneOnDryRun")
    yield from check.choice(f"{at}.sideEffects", hook.get("sideEffects"), effects)
    yield from check.choice(f"{at}.failurePolicy", hook.get("failurePolicy"), ("Fail", "Ignore"))
    yield from check.choice(f"{at}.matchPolicy", hook.get("matchPolicy"), ("Equivalent", "Exact"))
    if not 0 < hook.get("timeoutSeconds", 10) <= 30:
        told = "the timeout value must be between 1 and 30 seconds"
        yield invalid_value(f"{at}.timeoutSeconds", hook["timeoutSeconds"], told)
    versions = hook.get("admissionReviewVersions") or []
    if not versions:
        yield required(f"{at}.admissionReviewVersions", "must specify one of v1, v1beta1")
    elif not {"v1", "v1beta1"} & set(versions):
        told = "must include at least one of v1, v1beta1"
        yield invalid_value(f"{at}.admissionReviewVersions", str(versions), told)
    target = hook.get("clientConfig") or {}
    if bool(target.get("url")) == bool(target.get("service")):
        yield required(f"{at}.clientConfig", "exactly one of url or service is required")


def _disruption_budget(obj: JSON) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield invalid_value("spec", "", "minAvailable and maxUnavailable cannot be both set")
    for name in ("minAvailable", "maxUnavailable"):
        yield from _share(f"spec.{name}", spec.get(name))


def _autoscaler(obj: JSON) -> Iterator[Cause]:
    spec = obj.get("spec") or {}
    most, least = spec.get("maxReplicas", 0), spec.get("minReplicas", 1)
    for name in ("kind", "name"):
        if not (spec.get("scaleTargetRef") or {}).get(name):
            yield required(f"spec.scaleTargetRef.{name}")
    if most < 1:
        yield invalid_value("spec.maxReplicas", most, "must be greater than 0")
    if least < 1:
        yield invalid_value("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < least:
        yield invalid_value("spec.maxReplicas", most, "must be greater than or equal to `minReplicas`")
    share = spec.get("targetCPUUtilizationPercentage")
    if share is not None and share < 1:
        yield invalid_value("spec.targetCPUUtilizationPercentage", share, "must be greater than 0")


_RULES: dict[tuple[str, str], Rule] = {
    ("", "ConfigMap"): _config_map,
    ("", "PersistentVolumeClaim"): _volume_claim,
    ("", "Pod"): _pod,
    ("", "Secret"): _secret,
    ("", "Service"): service,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _webhooks,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): policy_checks.policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): policy_checks.binding,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _webhooks,
    ("apps", "DaemonSet"): _workload("daemonset"),
    ("apps", "Deployment"): _workload("deployment"),
    ("apps", "ReplicaSet"): _workload("deployment"),
    ("apps", "StatefulSet"): _workload("statefulset"),
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("batch", "CronJob"): _cron_job,
    ("batch", "Job"): _job,
    ("certificates.k8s.io", "CertificateSigningRequest"): certificate_requests.problems,
    ("networking.k8s.io", "Ingress"): ingress,
    ("networking.k8s.io", "NetworkPolicy"): network_policy,
    ("policy", "PodDisruptionBudget"): _disruption_budget,
    ("rbac.authorization.k8s.io", "ClusterRole"): _role,
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): _role_binding,
    ("rbac.authorization.k8s.io", "Role"): _role,
    ("rbac.authorization.k8s.io", "RoleBinding"): _role_binding,
}
