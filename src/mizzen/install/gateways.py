"""`istio-ingressgateway` and `istio-egressgateway`: a Service before a Deployment of routers."""

from __future__ import annotations

from typing import Any, TypeAlias

from mizzen.inject.settings import Settings
from mizzen.inject.template import PROXY_UID, Subject, proxy_container, volumes
from mizzen.inject.workload import Workload
from mizzen.install.labels import labelled
from mizzen.install.options import GatewayValues, InstallValues, InvalidOption
from mizzen.install.profiles import HTTP_PORTS, INGRESS_PORTS

JSON: TypeAlias = dict[str, Any]

_COMPONENTS = {"ingress": "IngressGateways", "egress": "EgressGateways"}


def gateway_objects(kind: str, name: str, namespace: str, values: InstallValues, settings: Settings) -> list[JSON]:
    """All objects of one gateway; `kind` is ingress or egress. Raises InvalidOption for any but Istio's two."""
    if name != f"istio-{kind}gateway":
        raise InvalidOption(f"gateway {name!r}: only istio-{kind}gateway is installed; inject others by their own Pods")
    own = values.gateways.ingress if kind == "ingress" else values.gateways.egress
    labels = {"app": name, "istio": f"{kind}gateway"}
    metadata: JSON = {"name": name, "namespace": namespace, "labels": labels}
    account = {**metadata, "name": f"{name}-service-account"}
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _service_metadata(metadata, own),
            "spec": _service(kind, own, labels),
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": _deployment(kind, name, namespace, own, settings),
        },
        *_reader_of_secrets(metadata, account["name"]),
        *([_autoscaler(metadata)] if own.autoscale_enabled else []),
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata,
            "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}},
        },
    ]
    return [labelled(one, _COMPONENTS[kind]) for one in objects]


def _reader_of_secrets(metadata: JSON, account: str) -> list[JSON]:
    """istiod gives certificates out of Secrets only to whose service account may list them."""
    group, named = "rbac.authorization.k8s.io", {**metadata, "name": f"{metadata['name']}-sds"}
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "watch", "list"]}
    subject = {"kind": "ServiceAccount", "name": account}
    return [
        {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": named, "rules": [rule]},
        {
            "apiVersion": f"{group}/v1",
            "kind": "RoleBinding",
            "metadata": named,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": named["name"]},
            "subjects": [subject],
        },
    ]


def _service_metadata(metadata: JSON, own: GatewayValues) -> JSON:
    return {**metadata, "annotations": own.service_annotations} if own.service_annotations else metadata


def _service_ports(kind: str, own: GatewayValues) -> list[JSON]:
    return [dict(port) for port in own.ports or (INGRESS_PORTS if kind == "ingress" else HTTP_PORTS)]


def _service(kind: str, own: GatewayValues, labels: JSON) -> JSON:
    return {
        "type": own.type or ("LoadBalancer" if kind == "ingress" else "ClusterIP"),
        "selector": labels,
        "ports": _service_ports(kind, own),
        **({"loadBalancerIP": own.load_balancer_ip} if own.load_balancer_ip else {}),
        **({"externalTrafficPolicy": own.external_traffic_policy} if own.external_traffic_policy else {}),
    }


def _deployment(kind: str, name: str, namespace: str, own: GatewayValues, settings: Settings) -> JSON:
    labels = {"app": name, "istio": f"{kind}gateway"}
    pod_labels = {
        **labels,
        "service.istio.io/canonical-name": name,
        "service.istio.io/canonical-revision": "latest",
        "sidecar.istio.io/inject": "false",
        "istio.io/rev": "default",
    }
    annotations = {
        "istio.io/rev": "default",
        "prometheus.io/port": str(settings.values.global_.proxy.status_port),
        "prometheus.io/scrape": "true",
        "prometheus.io/path": "/stats/prometheus",
        "sidecar.istio.io/inject": "false",
    }
    template = {"metadata": {"labels": pod_labels, "annotations": annotations}, "spec": {}}
    return {
        **({} if own.autoscale_enabled else {"replicas": own.replica_count}),
        "selector": {"matchLabels": labels},
        "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": "25%"}},
        "template": {**template, "spec": _pod_spec(kind, name, namespace, own, settings)},
    }


def _pod_spec(kind: str, name: str, namespace: str, own: GatewayValues, settings: Settings) -> JSON:
    """Written out here and not left to injection, so that gateways need nobody to start."""
    subject = Subject(
        pod={"metadata": {"labels": {"app": name}}, "spec": {}},
        namespace=namespace,
        workload=Workload(name=name, kind="Deployment", api_version="apps/v1"),
        settings=settings,
        proxy_config=settings.mesh.default_config,
        written_config=settings.proxy_config,
        kind="router",
    )
    proxy = proxy_container(subject)
    targets = [port.get("targetPort", port["port"]) for port in _service_ports(kind, own)]
    listening = [{"containerPort": port, "protocol": "TCP"} for port in targets if isinstance(port, int)]
    return {
        "serviceAccountName": f"{name}-service-account",
        "securityContext": {
            "runAsUser": PROXY_UID,
            "runAsGroup": PROXY_UID,
            "runAsNonRoot": True,
            "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
        },
        "containers": [
            {
                **proxy,
                "ports": [*listening, *proxy["ports"]],
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "privileged": False,
                    "readOnlyRootFilesystem": True,
                },
                **({"resources": own.resources} if own.resources else {}),
            }
        ],
        "volumes": volumes(subject),
    }


def _autoscaler(metadata: JSON) -> JSON:
    usage = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": metadata,
        "spec": {
            "maxReplicas": 5,
            "minReplicas": 1,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": metadata["name"]},
            "metrics": [{"type": "Resource", "resource": usage}],
        },
    }
