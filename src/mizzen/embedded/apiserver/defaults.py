"""What the server writes into a built-in object where its author left it out.

The values are those of Kubernetes 1.32 (defaults.go of each API group). Custom resources are defaulted by their schema.
"""

from __future__ import annotations

from collections.abc import Callable

from mizzen.embedded.apiserver import schema_structural
from mizzen.embedded.apiserver.defaults_pod import default_pod, default_template, fill, items
from mizzen.embedded.apiserver.schema_definitions import Node
from mizzen.kube.api import JSON, Resource

_RBAC = "rbac.authorization.k8s.io"
_ONE_QUARTER = "25%"


def default(resource: Resource, obj: JSON, schema: Node | None = None) -> JSON:
    """`obj`, changed in place and returned. Its types must be right (`schema.decoding_error`)."""
    if schema is not None:
        return schema_structural.default(schema, obj)
    rule = _RULES.get((resource.group, resource.kind))
    if rule is not None:
        rule(obj)
    return obj


def _spec(obj: JSON) -> JSON:
    """The spec, made if need be: defaults apply to an empty one as well."""
    if not isinstance(obj.get("spec"), dict):
        obj["spec"] = {}
    spec: JSON = obj["spec"]
    return spec


def _deployment(obj: JSON) -> None:
    spec = _spec(obj)
    fill(spec, {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600, "strategy": {}})
    strategy = spec["strategy"]
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        fill(strategy, {"rollingUpdate": {}})
        fill(strategy["rollingUpdate"], {"maxSurge": _ONE_QUARTER, "maxUnavailable": _ONE_QUARTER})
    default_template(spec.get("template"))


def _replicated(obj: JSON) -> None:
    spec = _spec(obj)
    fill(spec, {"replicas": 1})
    default_template(spec.get("template"))


def _stateful_set(obj: JSON) -> None:
    spec = _spec(obj)
    fill(
        spec,
        {
            "replicas": 1,
            "revisionHistoryLimit": 10,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {},
            "persistentVolumeClaimRetentionPolicy": {},
        },
    )
    fill(spec["persistentVolumeClaimRetentionPolicy"], {"whenDeleted": "Retain", "whenScaled": "Retain"})
    fill(spec["updateStrategy"], {"type": "RollingUpdate"})
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        fill(spec["updateStrategy"], {"rollingUpdate": {}})
        fill(spec["updateStrategy"]["rollingUpdate"], {"partition": 0})
    for claim in items(spec, "volumeClaimTemplates"):
        fill(claim, {"apiVersion": "v1", "kind": "PersistentVolumeClaim"})
        _volume_claim(claim)
    default_template(spec.get("template"))


def _daemon_set(obj: JSON) -> None:
    spec = _spec(obj)
    fill(spec, {"revisionHistoryLimit": 10, "updateStrategy": {}})
    fill(spec["updateStrategy"], {"type": "RollingUpdate"})
    if spec["updateStrategy"]["type"] == "RollingUpdate":
        fill(spec["updateStrategy"], {"rollingUpdate": {}})
        fill(spec["updateStrategy"]["rollingUpdate"], {"maxUnavailable": 1, "maxSurge": 0})
    default_template(spec.get("template"))


def _job(obj: JSON) -> None:
    spec = _spec(obj)
    if spec.get("parallelism") is None:
        fill(spec, {"completions": 1} if spec.get("completions") is None else {})
        spec["parallelism"] = 1
    replacement = "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed"
    fill(
        spec,
        {
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "suspend": False,
            "manualSelector": False,
            "podReplacementPolicy": replacement,
        },
    )
    default_template(spec.get("template"))
    _select_own_pods(obj["metadata"], spec)


def _select_own_pods(metadata: JSON, spec: JSON) -> None:
    """A new Job selects its Pods by its uid, unless its author selects by hand."""
    if spec["manualSelector"] or spec.get("selector") or not metadata.get("uid"):
        return
    template = spec.setdefault("template", {})
    if template.get("metadata") is None:
        template["metadata"] = {}
    fill(template["metadata"], {"labels": {}})
    for prefix in ("batch.kubernetes.io/", ""):
        template["metadata"]["labels"][f"{prefix}controller-uid"] = metadata["uid"]
        template["metadata"]["labels"][f"{prefix}job-name"] = metadata.get("name", "")
    spec["selector"] = {"matchLabels": {"batch.kubernetes.io/controller-uid": metadata["uid"]}}


def _cron_job(obj: JSON) -> None:
    spec = _spec(obj)
    fill(
        spec,
        {
            "concurrencyPolicy": "Allow",
            "suspend": False,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 1,
        },
    )
    default_template(((spec.get("jobTemplate") or {}).get("spec") or {}).get("template"))


def _service(obj: JSON) -> None:
    spec = _spec(obj)
    spec["type"] = spec.get("type") or "ClusterIP"
    spec["sessionAffinity"] = spec.get("sessionAffinity") or "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    else:
        client_ip = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        fill(client_ip, {"timeoutSeconds": 10800})
    for port in items(spec, "ports"):
        fill(port, {"protocol": "TCP"})
        port["targetPort"] = port.get("targetPort") or port.get("port", 0)
    _traffic_policies(spec)


def _traffic_policies(spec: JSON) -> None:
    if spec["type"] != "ExternalName":
        fill(spec, {"internalTrafficPolicy": "Cluster"})
    if spec["type"] in ("NodePort", "LoadBalancer"):
        fill(spec, {"externalTrafficPolicy": "Cluster"})
    if spec["type"] == "LoadBalancer":
        fill(spec, {"allocateLoadBalancerNodePorts": True})


def _endpoints(obj: JSON) -> None:
    for subset in items(obj, "subsets"):
        for port in items(subset, "ports"):
            fill(port, {"protocol": "TCP"})


def _endpoint_slice(obj: JSON) -> None:
    for port in items(obj, "ports"):
        fill(port, {"name": "", "protocol": "TCP"})


def _secret(obj: JSON) -> None:
    obj["type"] = obj.get("type") or "Opaque"


def _volume_claim(obj: JSON) -> None:
    fill(_spec(obj), {"volumeMode": "Filesystem"})
    fill(obj, {"status": {}})
    fill(obj["status"], {"phase": "Pending"})


def _volume(obj: JSON) -> None:
    spec = _spec(obj)
    fill(spec, {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"})
    if spec.get("hostPath") is not None:
        fill(spec["hostPath"], {"type": ""})


def _network_policy(obj: JSON) -> None:
    spec = _spec(obj)
    for direction in ("ingress", "egress"):
        for rule in items(spec, direction):
            for port in items(rule, "ports"):
                fill(port, {"protocol": "TCP"})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def _binding(obj: JSON) -> None:
    if obj.get("roleRef") and not obj["roleRef"].get("apiGroup"):
        obj["roleRef"]["apiGroup"] = _RBAC
    for subject in items(obj, "subjects"):
        if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
            subject["apiGroup"] = _RBAC


def _webhook(hook: JSON) -> None:
    fill(
        hook,
        {
            "failurePolicy": "Fail",
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "timeoutSeconds": 10,
        },
    )
    if (hook.get("clientConfig") or {}).get("service"):
        fill(hook["clientConfig"]["service"], {"port": 443})
    for rule in items(hook, "rules"):
        fill(rule, {"scope": "*"})


def _mutating_webhooks(obj: JSON) -> None:
    for hook in items(obj, "webhooks"):
        _webhook(hook)
        fill(hook, {"reinvocationPolicy": "Never"})


def _validating_webhooks(obj: JSON) -> None:
    for hook in items(obj, "webhooks"):
        _webhook(hook)


def _policy(obj: JSON) -> None:
    spec = _spec(obj)
    fill(spec, {"failurePolicy": "Fail"})
    if spec.get("matchConstraints") is not None:
        _match_resources(spec["matchConstraints"])


def _policy_binding(obj: JSON) -> None:
    if _spec(obj).get("matchResources") is not None:
        _match_resources(_spec(obj)["matchResources"])


def _match_resources(found: JSON) -> None:
    fill(found, {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}})
    for rule in (*items(found, "resourceRules"), *items(found, "excludeResourceRules")):
        fill(rule, {"scope": "*"})


def _autoscaler(obj: JSON) -> None:
    spec = _spec(obj)
    fill(spec, {"minReplicas": 1})
    if obj["apiVersion"] == "autoscaling/v2" and not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": 80}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def _definition(obj: JSON) -> None:
    spec = _spec(obj)
    fill(spec, {"conversion": {"strategy": "None"}})
    names = spec.get("names") or {}
    if names.get("kind"):
        fill(names, {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List"})
    service = ((spec["conversion"].get("webhook") or {}).get("clientConfig") or {}).get("service")
    if service:
        fill(service, {"port": 443})


def _priority_class(obj: JSON) -> None:
    fill(obj, {"preemptionPolicy": "PreemptLowerPriority"})


def _storage_class(obj: JSON) -> None:
    fill(obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def _ingress_class(obj: JSON) -> None:
    if (parameters := _spec(obj).get("parameters")) is not None:
        fill(parameters, {"scope": "Cluster"})


_RULES: dict[tuple[str, str], Callable[[JSON], None]] = {
    ("", "Endpoints"): _endpoints,
    ("", "PersistentVolume"): _volume,
    ("", "PersistentVolumeClaim"): _volume_claim,
    ("", "Pod"): default_pod,
    ("", "PodTemplate"): lambda obj: default_template(obj.get("template")),
    ("", "ReplicationController"): _replicated,
    ("", "Secret"): _secret,
    ("", "Service"): _service,
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"): _mutating_webhooks,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"): _policy,
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"): _policy_binding,
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"): _validating_webhooks,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replicated,
    ("apps", "StatefulSet"): _stateful_set,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("batch", "CronJob"): _cron_job,
    ("batch", "Job"): _job,
    ("discovery.k8s.io", "EndpointSlice"): _endpoint_slice,
    ("networking.k8s.io", "IngressClass"): _ingress_class,
    ("networking.k8s.io", "NetworkPolicy"): _network_policy,
    (_RBAC, "ClusterRoleBinding"): _binding,
    (_RBAC, "RoleBinding"): _binding,
    ("scheduling.k8s.io", "PriorityClass"): _priority_class,
    ("storage.k8s.io", "StorageClass"): _storage_class,
}
