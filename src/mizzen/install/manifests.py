"""The objects of a mesh, in the order in which they are made.

Names, labels and ports are Istio's, because tools and people look for them:
https://github.com/istio/istio/tree/master/manifests/charts
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
import yaml

from mizzen.api.crds import custom_resource_definitions
from mizzen.api.decode import convert, to_json
from mizzen.api.mesh import MeshConfig
from mizzen.inject.settings import Policy, Settings, Values
from mizzen.install.gateways import gateway_objects
from mizzen.install.labels import OWNING_RESOURCE, labelled
from mizzen.install.options import Options
from mizzen.install.webhooks import mutating_webhook, validating_webhook

JSON: TypeAlias = dict[str, Any]

NAMESPACE = "istio-system"
ISTIOD = "istiod"
_SELECTOR = {"app": ISTIOD, "istio": "pilot"}

ADS_PORT, CA_PORT, WEBHOOK_PORT, MONITORING_PORT, READY_PORT = 15011, 15012, 15017, 15014, 8080


def manifests(options: Options) -> list[JSON]:
    """All objects of the installation, in installation order; pure."""
    components = options.components
    base = [_namespace(), *(_crd(one) for one in custom_resource_definitions()), *_reader(), _addons()]
    objects = base if components.base.enabled or components.pilot.enabled else []
    if components.pilot.enabled:
        objects = [*objects, *_control_plane(options)]
    for kind, enabled in (("ingress", components.ingress_gateways), ("egress", components.egress_gateways)):
        for gateway in enabled:
            if gateway.enabled:
                objects = [*objects, *gateway_objects(kind, gateway.name, NAMESPACE, options.values, settings(options))]
    return objects


def to_yaml(objects: list[JSON]) -> str:
    """One YAML stream, as `manifest generate` prints it."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return "---\n".join(yaml.dump(one, Dumper=dumper, sort_keys=False, allow_unicode=True) for one in objects)


def mesh_config(options: Options) -> JSON:
    """What ConfigMap `istio` holds: the chart's own settings below what profile and user wrote."""
    written = options.mesh_config
    own = {
        "defaultProviders": {"metrics": ["prometheus"]},
        "enablePrometheusMerge": True,
        "rootNamespace": NAMESPACE,
        "trustDomain": "cluster.local",
    }
    default_config = {"discoveryAddress": f"{ISTIOD}.{NAMESPACE}.svc:{CA_PORT}", **(written.get("defaultConfig") or {})}
    return {**own, **written, "defaultConfig": default_config}


def settings(options: Options) -> Settings:
    """What the injector is told, before it is written into ConfigMaps."""
    mesh = mesh_config(options)
    given = options.values.global_
    global_ = msgspec.structs.replace(given, hub=options.hub or given.hub, tag=options.tag or given.tag)
    return Settings(
        mesh=convert(mesh, MeshConfig),
        proxy_config=mesh["defaultConfig"],
        values=Values(global_=global_, sidecar_injector_webhook=options.values.sidecar_injector_webhook),
        policy=Policy(),
    )


def _namespace() -> JSON:
    """Without the component label: `uninstall --purge` leaves the namespace to its owner, as Istio does."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}


def _crd(definition: JSON) -> JSON:
    return labelled(definition, "Base")


def _object(api_version: str, kind: str, name: str, *, cluster: bool = False, **content: Any) -> JSON:
    metadata = {"name": name, **({} if cluster else {"namespace": NAMESPACE}), "labels": {"app": ISTIOD}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **content}


def _reader() -> list[JSON]:
    """The account that other clusters' control planes, and tools such as Kiali, read with."""
    return [labelled(_object("v1", "ServiceAccount", "istio-reader-service-account"), "Base")]


def _addons() -> JSON:
    """What `samples/addons` holds until observability comes: deleting that folder finds it, applied before or not."""
    return labelled(_object("v1", "ConfigMap", "addons", data={}), "Base")


def _control_plane(options: Options) -> list[JSON]:
    pilot = options.values.pilot
    objects = [
        _object("v1", "ServiceAccount", ISTIOD),
        *_rights(),
        _mesh_config_map(options),
        _injector_config_map(options),
        _service(),
        _deployment(options),
        *([_autoscaler()] if pilot.autoscale_enabled else []),
        _disruption_budget(),
        mutating_webhook(NAMESPACE, by_default=options.values.sidecar_injector_webhook.enable_namespaces_by_default),
        validating_webhook(NAMESPACE),
    ]
    return [labelled(one, "Pilot") for one in objects]


_READ = ["get", "list", "watch"]
_WRITE = ["create", "update", "patch", "delete"]
_RULES = (
    (["admissionregistration.k8s.io"], ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"],
     [*_READ, "update", "patch"]),
    (["networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io"], ["*"],
     [*_READ, "update", "patch"]),
    (["gateway.networking.k8s.io"], ["*"], [*_READ, "update", "patch"]),
    (["apiextensions.k8s.io"], ["customresourcedefinitions"], _READ),
    ([""], ["pods", "nodes", "services", "namespaces", "endpoints", "secrets"], _READ),
    (["discovery.k8s.io"], ["endpointslices"], _READ),
    (["apps"], ["replicasets"], _READ),
    (["networking.k8s.io"], ["ingresses", "ingressclasses"], _READ),
    (["networking.k8s.io"], ["ingresses/status"], ["update", "patch"]),
    ([""], ["events"], ["create"]),
    ([""], ["configmaps"], [*_READ, *_WRITE]),
    (["authentication.k8s.io"], ["tokenreviews"], ["create"]),
    (["authorization.k8s.io"], ["subjectaccessreviews"], ["create"]),
)  # fmt: skip


def _rules(*rules: tuple[list[str], list[str], list[str]]) -> list[JSON]:
    return [{"apiGroups": groups, "resources": resources, "verbs": verbs} for groups, resources, verbs in rules]


def _rights() -> list[JSON]:
    rbac, name = "rbac.authorization.k8s.io/v1", f"istiod-clusterrole-{NAMESPACE}"
    subjects = [{"kind": "ServiceAccount", "name": ISTIOD, "namespace": NAMESPACE}]
    group = rbac.partition("/")[0]
    own = _rules(([""], ["secrets"], [*_READ, *_WRITE]), (["coordination.k8s.io"], ["leases"], [*_READ, *_WRITE]))
    return [
        _object(rbac, "ClusterRole", name, cluster=True, rules=_rules(*_RULES)),
        _object(
            rbac,
            "ClusterRoleBinding",
            name,
            cluster=True,
            roleRef={"apiGroup": group, "kind": "ClusterRole", "name": name},
            subjects=subjects,
        ),
        _object(rbac, "Role", ISTIOD, rules=own),
        _object(
            rbac,
            "RoleBinding",
            ISTIOD,
            roleRef={"apiGroup": group, "kind": "Role", "name": ISTIOD},
            subjects=subjects,
        ),
    ]


def _mesh_config_map(options: Options) -> JSON:
    data = {"mesh": _yaml(mesh_config(options)), "meshNetworks": "networks: {}\n"}
    return _object("v1", "ConfigMap", "istio", data=data)


def _injector_config_map(options: Options) -> JSON:
    told = settings(options)
    policy = {"policy": told.policy.policy, "neverInjectSelector": [], "alwaysInjectSelector": []}
    data = {"config": _yaml(policy), "values": json.dumps(to_json(told.values), indent=2)}
    return _object("v1", "ConfigMap", "istio-sidecar-injector", data=data)


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=True)


def _service() -> JSON:
    ports = [
        {"name": "tls-ads", "port": ADS_PORT, "protocol": "TCP"},
        {"name": "https-dns", "port": CA_PORT, "protocol": "TCP"},
        {"name": "https-webhook", "port": 443, "targetPort": WEBHOOK_PORT, "protocol": "TCP"},
        {"name": "http-monitoring", "port": MONITORING_PORT, "protocol": "TCP"},
    ]
    return _object("v1", "Service", ISTIOD, spec={"ports": ports, "selector": dict(_SELECTOR)})


def _deployment(options: Options) -> JSON:
    pilot = options.values.pilot
    labels = {**_SELECTOR, "istio.io/rev": "default", "sidecar.istio.io/inject": "false", **OWNING_RESOURCE}
    annotations = {
        "prometheus.io/port": str(MONITORING_PORT),
        "prometheus.io/scrape": "true",
        "sidecar.istio.io/inject": "false",
    }
    return _object(
        "apps/v1",
        "Deployment",
        ISTIOD,
        spec={
            **({} if pilot.autoscale_enabled else {"replicas": pilot.replica_count}),
            "selector": {"matchLabels": dict(_SELECTOR)},
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": {"serviceAccountName": ISTIOD, "containers": [_discovery(options)]},
            },
        },
    )


def _discovery(options: Options) -> JSON:
    global_ = settings(options).values.global_
    own = {
        "REVISION": "default",
        "PILOT_CERT_PROVIDER": "istiod",
        "CLUSTER_ID": global_.multi_cluster.get("clusterName") or "Kubernetes",
        **options.values.pilot.env,
    }
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    return {
        "name": "discovery",
        "image": f"{global_.hub}/pilot:{global_.tag}",
        **({"imagePullPolicy": global_.image_pull_policy} if global_.image_pull_policy else {}),
        "args": ["discovery", f"--monitoringAddr=:{MONITORING_PORT}", "--domain", global_.proxy.cluster_domain],
        "ports": [
            {"containerPort": READY_PORT, "protocol": "TCP", "name": "http-ready"},
            {"containerPort": ADS_PORT, "protocol": "TCP", "name": "tls-ads"},
            {"containerPort": CA_PORT, "protocol": "TCP", "name": "grpc-ca"},
            {"containerPort": WEBHOOK_PORT, "protocol": "TCP", "name": "https-webhooks"},
            {"containerPort": MONITORING_PORT, "protocol": "TCP", "name": "http-monitoring"},
        ],
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": READY_PORT},
            "initialDelaySeconds": 0,
            "periodSeconds": 1,
            "timeoutSeconds": 5,
        },
        "env": [
            *({"name": name, "value": value} for name, value in own.items()),
            *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        ],
        "resources": options.values.pilot.resources or {"requests": {"cpu": "500m", "memory": "2048Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 1337,
            "runAsGroup": 1337,
        },
    }


def _autoscaler() -> JSON:
    usage = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    spec = {
        "maxReplicas": 5,
        "minReplicas": 1,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": ISTIOD},
        "metrics": [{"type": "Resource", "resource": usage}],
    }
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", ISTIOD, spec=spec)


def _disruption_budget() -> JSON:
    spec = {"minAvailable": 1, "selector": {"matchLabels": dict(_SELECTOR)}}
    return _object("policy/v1", "PodDisruptionBudget", ISTIOD, spec=spec)
