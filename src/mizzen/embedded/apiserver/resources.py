"""The built-in resource types: one line per kind, as `kubectl api-resources` lists them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mizzen.kube.api import JSON, Resource

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
CREATE_ONLY = ("create",)
READ_ONLY = ("get", "list")


@dataclass(frozen=True, slots=True)
class Subresource:
    """`kind` and `api_version` are what its body is, where that is not its parent's."""

    name: str
    kind: str = ""
    api_version: str = ""
    verbs: tuple[str, ...] = ("get", "patch", "update")


@dataclass(frozen=True, slots=True)
class ResourceType:
    """All that the server must know of a kind in one version."""

    resource: Resource
    singular: str
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = ()
    list_kind: str = ""
    storage: str = ""
    """The key under which the store keeps all versions of this kind."""
    storage_version: str = ""
    """The `apiVersion` that is written to the store."""
    crd_version: JSON | None = field(default=None, compare=False, hash=False)
    """For custom resources: the entry of `spec.versions` that this type came from."""

    @property
    def custom(self) -> bool:
        return self.crd_version is not None

    def subresource(self, name: str) -> Subresource | None:
        return next((each for each in self.subresources if each.name == name), None)

    def has_status(self) -> bool:
        return self.subresource("status") is not None


STATUS = Subresource("status")
SCALE = Subresource("scale", "Scale", "autoscaling/v1")
_STREAM = ("create", "get")
_POD_SUBRESOURCES = (
    Subresource("attach", "PodAttachOptions", "v1", _STREAM),
    Subresource("binding", "Binding", "v1", CREATE_ONLY),
    Subresource("ephemeralcontainers", "Pod"),
    Subresource("eviction", "Eviction", "policy/v1", CREATE_ONLY),
    Subresource("exec", "PodExecOptions", "v1", _STREAM),
    Subresource("log", "Pod", "v1", ("get",)),
    Subresource("portforward", "PodPortForwardOptions", "v1", _STREAM),
    Subresource("proxy", "PodProxyOptions", "v1", ("create", "delete", "get", "patch", "update")),
    STATUS,
)
_SERVICE_SUBRESOURCES = (
    Subresource("proxy", "ServiceProxyOptions", "v1", ("create", "delete", "get", "patch", "update")),
    STATUS,
)
_TOKEN = Subresource("token", "TokenRequest", "authentication.k8s.io/v1", CREATE_ONLY)
_CSR_SUBRESOURCES = (Subresource("approval", "CertificateSigningRequest"), STATUS)

_Line = tuple[str, str, str, bool, str, tuple[Subresource, ...]]
_ADMISSION = "admissionregistration.k8s.io/v1"
_RBAC = "rbac.authorization.k8s.io/v1"

# group/version, plural, kind, namespaced, short names, subresources
_LINES: tuple[_Line, ...] = (
    ("v1", "bindings", "Binding", True, "", ()),
    ("v1", "configmaps", "ConfigMap", True, "cm", ()),
    ("v1", "endpoints", "Endpoints", True, "ep", ()),
    ("v1", "events", "Event", True, "ev", ()),
    ("v1", "limitranges", "LimitRange", True, "limits", ()),
    ("v1", "namespaces", "Namespace", False, "ns", (Subresource("finalize", verbs=("update",)), STATUS)),
    ("v1", "nodes", "Node", False, "no", (STATUS,)),
    ("v1", "persistentvolumeclaims", "PersistentVolumeClaim", True, "pvc", (STATUS,)),
    ("v1", "persistentvolumes", "PersistentVolume", False, "pv", (STATUS,)),
    ("v1", "pods", "Pod", True, "po", _POD_SUBRESOURCES),
    ("v1", "podtemplates", "PodTemplate", True, "", ()),
    ("v1", "replicationcontrollers", "ReplicationController", True, "rc", (SCALE, STATUS)),
    ("v1", "resourcequotas", "ResourceQuota", True, "quota", (STATUS,)),
    ("v1", "secrets", "Secret", True, "", ()),
    ("v1", "serviceaccounts", "ServiceAccount", True, "sa", (_TOKEN,)),
    ("v1", "services", "Service", True, "svc", _SERVICE_SUBRESOURCES),
    (_ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", False, "", ()),
    (_ADMISSION, "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False, "", (STATUS,)),
    (_ADMISSION, "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False, "", ()),
    (_ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", False, "", ()),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions", "CustomResourceDefinition", False, "crd crds", (STATUS,)),
    ("apps/v1", "controllerrevisions", "ControllerRevision", True, "", ()),
    ("apps/v1", "daemonsets", "DaemonSet", True, "ds", (STATUS,)),
    ("apps/v1", "deployments", "Deployment", True, "deploy", (SCALE, STATUS)),
    ("apps/v1", "replicasets", "ReplicaSet", True, "rs", (SCALE, STATUS)),
    ("apps/v1", "statefulsets", "StatefulSet", True, "sts", (SCALE, STATUS)),
    ("authentication.k8s.io/v1", "selfsubjectreviews", "SelfSubjectReview", False, "", ()),
    ("authentication.k8s.io/v1", "tokenreviews", "TokenReview", False, "", ()),
    ("authorization.k8s.io/v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", True, "", ()),
    ("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False, "", ()),
    ("authorization.k8s.io/v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", False, "", ()),
    ("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview", False, "", ()),
    ("autoscaling/v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True, "hpa", (STATUS,)),
    ("autoscaling/v1", "horizontalpodautoscalers", "HorizontalPodAutoscaler", True, "hpa", (STATUS,)),
    ("batch/v1", "cronjobs", "CronJob", True, "cj", (STATUS,)),
    ("batch/v1", "jobs", "Job", True, "", (STATUS,)),
    (
        "certificates.k8s.io/v1",
        "certificatesigningrequests",
        "CertificateSigningRequest",
        False,
        "csr",
        _CSR_SUBRESOURCES,
    ),
    ("coordination.k8s.io/v1", "leases", "Lease", True, "", ()),
    ("discovery.k8s.io/v1", "endpointslices", "EndpointSlice", True, "", ()),
    ("events.k8s.io/v1", "events", "Event", True, "ev", ()),
    ("metrics.k8s.io/v1beta1", "nodes", "NodeMetrics", False, "", ()),
    ("metrics.k8s.io/v1beta1", "pods", "PodMetrics", True, "", ()),
    ("networking.k8s.io/v1", "ingressclasses", "IngressClass", False, "", ()),
    ("networking.k8s.io/v1", "ingresses", "Ingress", True, "ing", (STATUS,)),
    ("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy", True, "netpol", ()),
    ("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget", True, "pdb", (STATUS,)),
    (_RBAC, "clusterrolebindings", "ClusterRoleBinding", False, "", ()),
    (_RBAC, "clusterroles", "ClusterRole", False, "", ()),
    (_RBAC, "rolebindings", "RoleBinding", True, "", ()),
    (_RBAC, "roles", "Role", True, "", ()),
    ("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", False, "pc", ()),
    ("storage.k8s.io/v1", "storageclasses", "StorageClass", False, "sc", ()),
)

_IN_ALL = frozenset(
    [
        "pods",
        "services",
        "replicationcontrollers",
        "daemonsets",
        "deployments",
        "replicasets",
        "statefulsets",
        "jobs",
        "cronjobs",
        "horizontalpodautoscalers",
    ]
)
_CATEGORIES = {
    "customresourcedefinitions": ("api-extensions",),
    "mutatingwebhookconfigurations": ("api-extensions",),
    "validatingwebhookconfigurations": ("api-extensions",),
    "validatingadmissionpolicies": ("api-extensions",),
    "validatingadmissionpolicybindings": ("api-extensions",),
}
_STORED_AS = {
    ("events.k8s.io/v1", "events"): "v1",
    ("autoscaling/v1", "horizontalpodautoscalers"): "autoscaling/v2",
}
_VIRTUAL = frozenset({"bindings", "authentication.k8s.io", "authorization.k8s.io"})


def storage_name(group: str, plural: str) -> str:
    """The store's name of a kind: events of both groups are the same objects."""
    group = "" if (group, plural) == ("events.k8s.io", "events") else group
    return f"{plural}.{group}" if group else plural


def _verbs(group: str, plural: str) -> tuple[str, ...]:
    if group == "metrics.k8s.io":
        return READ_ONLY
    return CREATE_ONLY if plural in _VIRTUAL or group in _VIRTUAL else ALL_VERBS


def _built_in(line: _Line) -> ResourceType:
    api_version, plural, kind, namespaced, short, subresources = line
    group, _, version = api_version.rpartition("/")
    return ResourceType(
        resource=Resource(group, version, plural, kind, namespaced),
        singular=kind.lower(),
        short_names=tuple(short.split()),
        categories=("all",) if plural in _IN_ALL and group != "metrics.k8s.io" else _CATEGORIES.get(plural, ()),
        verbs=_verbs(group, plural),
        subresources=subresources,
        list_kind=f"{kind}List",
        storage=storage_name(group, plural),
        storage_version=_STORED_AS.get((api_version, plural), api_version),
    )


BUILT_INS: tuple[ResourceType, ...] = tuple(_built_in(line) for line in _LINES)


def custom_types(crd: JSON) -> list[ResourceType]:
    """The resource types that an accepted CustomResourceDefinition serves, one per served version."""
    spec = crd["spec"]
    stored = next((version["name"] for version in spec["versions"] if version.get("storage")), "")
    served = [version for version in spec["versions"] if version.get("served")]
    return [_custom_type(spec, version, f"{spec['group']}/{stored}") for version in served]


def _custom_type(spec: JSON, version: JSON, storage_version: str) -> ResourceType:
    names, kind = spec["names"], spec["names"]["kind"]
    declared: dict[str, Any] = version.get("subresources") or {}
    subresources = [each for each in (SCALE, STATUS) if each.name in declared]
    return ResourceType(
        resource=Resource(spec["group"], version["name"], names["plural"], kind, spec.get("scope") == "Namespaced"),
        singular=names.get("singular") or kind.lower(),
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=tuple(subresources),
        list_kind=names.get("listKind") or f"{kind}List",
        storage=storage_name(spec["group"], names["plural"]),
        storage_version=storage_version,
        crd_version=version,
    )
