"""What injection adds to a Pod: containers, volumes, labels and annotations, with Istio's names and values.

Istio says them in https://github.com/istio/istio/tree/master/manifests/charts/istio-control/istio-discovery/files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from mizzen.api.base import Model
from mizzen.api.mesh import ProxyConfig
from mizzen.inject.settings import Settings
from mizzen.inject.workload import WORKLOAD_NAME, Workload

JSON: TypeAlias = dict[str, Any]

PROXY = "istio-proxy"
INIT = "istio-init"
PROXY_UID = 1337
_HEALTH_PORT = 15021
_METRICS_PORT = 15090


class Subject(Model):
    """The Pod that is being injected, and everything that was said about its proxy."""

    pod: JSON
    namespace: str
    workload: Workload
    settings: Settings
    proxy_config: ProxyConfig
    written_config: JSON
    """`proxyConfig` as the user and the mesh wrote it; it travels to the agent."""
    kind: Literal["sidecar", "router"] = "sidecar"

    @property
    def annotations(self) -> Mapping[str, str]:
        return self.pod["metadata"].get("annotations") or {}

    @property
    def labels(self) -> Mapping[str, str]:
        return self.pod["metadata"].get("labels") or {}

    def annotation(self, name: str, default: object) -> str:
        return str(self.annotations.get(name, default))

    @property
    def app_containers(self) -> list[JSON]:
        return [one for one in self.pod["spec"].get("containers") or () if one["name"] != PROXY]

    @property
    def interception(self) -> str:
        return self.annotation("sidecar.istio.io/interceptionMode", self.proxy_config.interception_mode)

    @property
    def native(self) -> bool:
        default = "true" if self.settings.policy.native_sidecars else "false"
        return self.kind == "sidecar" and self.annotation("sidecar.istio.io/nativeSidecar", default) == "true"

    @property
    def status_port(self) -> int:
        return int(self.annotation("status.sidecar.istio.io/port", self.settings.values.global_.proxy.status_port))

    @property
    def image(self) -> str:
        values = self.settings.values.global_
        name = self.annotation("sidecar.istio.io/proxyImage", values.proxy.image)
        return name if "/" in name else f"{values.hub}/{name}:{values.tag}"

    @property
    def log_level(self) -> str:
        logging = self.settings.values.global_.logging.get("level", "default:info")
        return f"--log_output_level={self.annotation('sidecar.istio.io/agentLogLevel', logging)}"


def init_container(subject: Subject) -> JSON:
    """`istio-init`: rules of capture, once, before anything else runs."""
    return {
        "name": INIT,
        "image": subject.image,
        "args": ["istio-iptables", *_capture_arguments(subject), subject.log_level],
        **_pull_policy(subject),
        "env": [*_capture_mark(subject), *_proxy_metadata(subject)],
        "resources": resources(subject),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
            "readOnlyRootFilesystem": False,
            "runAsGroup": 0,
            "runAsNonRoot": False,
            "runAsUser": 0,
        },
    }


def _capture_arguments(subject: Subject) -> list[str]:
    values = subject.settings.values.global_.proxy
    traffic = "traffic.sidecar.istio.io/"
    excluded = subject.annotation(f"{traffic}excludeInboundPorts", values.exclude_inbound_ports)
    always = ["15090", "15021", str(subject.status_port)]
    inbound = [*always, *(port for port in _listed(excluded) if port not in always)]
    arguments = {
        "-p": str(subject.settings.mesh.proxy_listen_port),
        "-z": str(subject.settings.mesh.proxy_inbound_listen_port),
        "-u": str(PROXY_UID),
        "-m": subject.interception,
        "-i": subject.annotation(f"{traffic}includeOutboundIPRanges", values.include_ip_ranges),
        "-x": subject.annotation(f"{traffic}excludeOutboundIPRanges", values.exclude_ip_ranges),
        "-b": subject.annotation(f"{traffic}includeInboundPorts", values.include_inbound_ports),
        "-d": ",".join(inbound),
        "-q": subject.annotation(f"{traffic}includeOutboundPorts", values.include_outbound_ports),
        "-o": subject.annotation(f"{traffic}excludeOutboundPorts", values.exclude_outbound_ports),
        "-k": subject.annotation("istio.io/reroute-virtual-interfaces", ""),
        "-c": subject.annotation(f"{traffic}excludeInterfaces", ""),
    }
    optional = ("-q", "-o", "-k", "-c")
    return [word for flag, value in arguments.items() if value or flag not in optional for word in (flag, value)]


def _listed(ports: str) -> list[str]:
    return [port.strip() for port in ports.split(",") if port.strip()]


def proxy_container(subject: Subject) -> JSON:
    """`istio-proxy`: agent and Envoy."""
    return {
        "name": PROXY,
        "image": subject.image,
        **({"restartPolicy": "Always"} if subject.native else {}),
        "ports": [{"containerPort": _METRICS_PORT, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": _proxy_arguments(subject),
        **_lifecycle(subject),
        "env": _environment(subject),
        **_pull_policy(subject),
        **(_probes(subject) if subject.status_port else {}),
        "securityContext": _proxy_security(subject),
        "resources": resources(subject),
        "volumeMounts": volume_mounts(subject),
    }


def _proxy_arguments(subject: Subject) -> list[str]:
    values = subject.settings.values.global_.proxy
    return [
        "proxy",
        subject.kind,
        "--domain",
        f"$(POD_NAMESPACE).svc.{values.cluster_domain}",
        f"--proxyLogLevel={subject.annotation('sidecar.istio.io/logLevel', values.log_level)}",
        "--proxyComponentLogLevel="
        + subject.annotation("sidecar.istio.io/componentLogLevel", values.component_log_level),
        subject.log_level,
    ]


def holds_application(subject: Subject) -> bool:
    values = subject.settings.values.global_.proxy
    held = subject.proxy_config.hold_application_until_proxy_starts or values.hold_application_until_proxy_starts
    return held and not subject.native and subject.kind == "sidecar"


def _lifecycle(subject: Subject) -> JSON:
    if holds_application(subject):
        return {"lifecycle": {"postStart": {"exec": {"command": ["pilot-agent", "wait"]}}}}
    if subject.native:
        command = ["pilot-agent", "request", f"--debug-port={subject.status_port}", "POST", "drain"]
        return {"lifecycle": {"preStop": {"exec": {"command": command}}}}
    return {}


def _field(name: str, path: str) -> JSON:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _limit(name: str, resource: str) -> JSON:
    return {"name": name, "valueFrom": {"resourceFieldRef": {"resource": resource, "divisor": "1"}}}


def _value(name: str, value: str) -> JSON:
    return {"name": name, "value": value}


def _environment(subject: Subject) -> list[JSON]:
    values = subject.settings.values.global_
    return [
        _value("PILOT_CERT_PROVIDER", "istiod"),
        _value("CA_ADDR", values.ca_address or f"{_istiod(subject)}.{values.istio_namespace}.svc:15012"),
        _field("POD_NAME", "metadata.name"),
        _field("POD_NAMESPACE", "metadata.namespace"),
        _field("INSTANCE_IP", "status.podIP"),
        _field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        _field("HOST_IP", "status.hostIP"),
        _limit("ISTIO_CPU_LIMIT", "limits.cpu"),
        _value("PROXY_CONFIG", _json(subject.written_config)),
        _value("ISTIO_META_POD_PORTS", _json(_ports(subject))),
        _value("ISTIO_META_APP_CONTAINERS", ",".join(one["name"] for one in subject.app_containers)),
        _limit("GOMEMLIMIT", "limits.memory"),
        _limit("GOMAXPROCS", "limits.cpu"),
        *_node_metadata(subject),
        _value("TRUST_DOMAIN", subject.settings.mesh.trust_domain),
        *_capture_mark(subject),
        *_proxy_metadata(subject),
    ]


def _node_metadata(subject: Subject) -> list[JSON]:
    """What becomes Envoy's node metadata."""
    values, workload = subject.settings.values.global_, subject.workload
    name = subject.labels.get(WORKLOAD_NAME) or workload.name
    return [
        _value("ISTIO_META_CLUSTER_ID", values.multi_cluster.get("clusterName") or "Kubernetes"),
        _field("ISTIO_META_NODE_NAME", "spec.nodeName"),
        _value("ISTIO_META_INTERCEPTION_MODE", subject.interception),
        *([_value("ISTIO_META_NETWORK", values.network)] if values.network else []),
        *([_value("ISTIO_META_WORKLOAD_NAME", name)] if name else []),
        *([_value("ISTIO_META_OWNER", workload.owner(subject.namespace))] if workload.name else []),
        _value("ISTIO_META_MESH_ID", values.mesh_id or subject.settings.mesh.trust_domain),
    ]


def _istiod(subject: Subject) -> str:
    revision = subject.settings.values.revision
    return f"istiod-{revision}" if revision else "istiod"


def _ports(subject: Subject) -> list[JSON]:
    """With the protocol that the API server fills in, so that YAML that has not been there gives the same Pod."""
    ports = (port for one in subject.app_containers for port in one.get("ports") or ())
    return [{"protocol": "TCP", **port} for port in ports]


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _proxy_metadata(subject: Subject) -> list[JSON]:
    return [_value(name, str(value)) for name, value in sorted(subject.proxy_config.proxy_metadata.items())]


def _capture_mark(subject: Subject) -> list[JSON]:
    by_mark = subject.settings.values.global_.proxy.capture == "mark"
    return [_value("MIZZEN_CAPTURE", "mark")] if by_mark else []


def _pull_policy(subject: Subject) -> JSON:
    policy = subject.settings.values.global_.image_pull_policy
    return {"imagePullPolicy": policy} if policy else {}


def _probes(subject: Subject) -> JSON:
    values = subject.settings.values.global_.proxy
    call = {"httpGet": {"path": "/healthz/ready", "port": _HEALTH_PORT}, "timeoutSeconds": 3}
    prefix = "readiness.status.sidecar.istio.io/"
    startup = {**call, "periodSeconds": 1, "failureThreshold": values.startup_probe.failure_threshold}
    readiness = {
        **call,
        "initialDelaySeconds": int(
            subject.annotation(f"{prefix}initialDelaySeconds", values.readiness_initial_delay_seconds)
        ),
        "periodSeconds": int(subject.annotation(f"{prefix}periodSeconds", values.readiness_period_seconds)),
        "failureThreshold": int(subject.annotation(f"{prefix}failureThreshold", values.readiness_failure_threshold)),
    }
    return (
        {"startupProbe": startup, "readinessProbe": readiness}
        if values.startup_probe.enabled
        else {"readinessProbe": readiness}
    )


def _proxy_security(subject: Subject) -> JSON:
    if subject.kind == "router":
        return {"runAsUser": PROXY_UID, "runAsGroup": PROXY_UID}
    transparent = subject.interception == "TPROXY"
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {**({"add": ["NET_ADMIN"]} if transparent else {}), "drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsGroup": PROXY_UID,
        "runAsNonRoot": not transparent,
        "runAsUser": 0 if transparent else PROXY_UID,
    }


def resources(subject: Subject) -> JSON:
    """The annotations replace the mesh's defaults as a whole, as in Istio."""
    prefix = "sidecar.istio.io/proxy"
    asked = {
        part: {
            resource: subject.annotations[name]
            for resource, name in (("cpu", f"{prefix}CPU{suffix}"), ("memory", f"{prefix}Memory{suffix}"))
            if name in subject.annotations
        }
        for part, suffix in (("requests", ""), ("limits", "Limit"))
    }
    return {part: amounts for part, amounts in asked.items() if amounts} or dict(
        subject.settings.values.global_.proxy.resources
    )


_MOUNTS = {
    "workload-socket": "/var/run/secrets/workload-spiffe-uds",
    "credential-socket": "/var/run/secrets/credential-uds",
    "workload-certs": "/var/run/secrets/workload-spiffe-credentials",
    "istiod-ca-cert": "/var/run/secrets/istio",
    "istio-ca-crl": "/var/run/secrets/istio/crl",
    "istio-data": "/var/lib/istio/data",
    "istio-envoy": "/etc/istio/proxy",
    "istio-token": "/var/run/secrets/tokens",
    "istio-podinfo": "/etc/istio/pod",
}


def volume_mounts(subject: Subject) -> list[JSON]:
    own = json.loads(subject.annotation("sidecar.istio.io/userVolumeMount", "{}"))
    mounts = [{"name": name, "mountPath": path} for name, path in _MOUNTS.items()]
    return [*mounts, *({"name": name, **mount} for name, mount in own.items())]


def volumes(subject: Subject) -> list[JSON]:
    own = json.loads(subject.annotation("sidecar.istio.io/userVolume", "{}"))
    podinfo = [{"path": name, "fieldRef": {"fieldPath": f"metadata.{name}"}} for name in ("labels", "annotations")]
    token = {"path": "istio-token", "expirationSeconds": 43200, "audience": "istio-ca"}
    return [
        {"name": "workload-socket", "emptyDir": {}},
        {"name": "credential-socket", "emptyDir": {}},
        {"name": "workload-certs", "emptyDir": {}},
        {"name": "istio-envoy", "emptyDir": {"medium": "Memory"}},
        {"name": "istio-data", "emptyDir": {}},
        {"name": "istio-podinfo", "downwardAPI": {"items": podinfo}},
        {"name": "istio-token", "projected": {"sources": [{"serviceAccountToken": token}]}},
        {"name": "istiod-ca-cert", "configMap": {"name": "istio-ca-root-cert"}},
        {"name": "istio-ca-crl", "configMap": {"name": "istio-ca-crl", "optional": True}},
        *({"name": name, **volume} for name, volume in own.items()),
    ]
