"""Defaults of a Pod's spec, alone or in a template.

They are those of Kubernetes 1.32 (pkg/apis/core/v1/defaults.go); `kubectl get -o yaml` shows them on a real cluster.
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.kube.api import JSON

_MODE = 0o644
_TOKEN_SECONDS = 3600


def fill(target: JSON, values: JSON) -> None:
    """Set what is absent or null."""
    for name, value in values.items():
        if target.get(name) is None:
            target[name] = value


def items(parent: JSON, name: str) -> Iterator[JSON]:
    """The objects of a list that may be absent."""
    yield from parent.get(name) or ()


def default_pod(pod: JSON) -> None:
    spec = pod.get("spec")
    if not isinstance(spec, dict):
        return
    default_pod_spec(spec)
    fill(spec, {"enableServiceLinks": True})
    for part in ("initContainers", "containers"):
        for container in items(spec, part):
            _request_limits(container["resources"])


def _request_limits(resources: JSON) -> None:
    """What is limited and not requested is requested."""
    for name, quantity in (resources.get("limits") or {}).items():
        resources.setdefault("requests", {}).setdefault(name, quantity)


def default_template(template: JSON | None) -> None:
    """A Pod template; `enableServiceLinks` and requests come with the Pod itself."""
    if template and isinstance(template.get("spec"), dict):
        default_pod_spec(template["spec"])


def default_pod_spec(spec: JSON) -> None:
    fill(
        spec,
        {
            "dnsPolicy": "ClusterFirst",
            "restartPolicy": "Always",
            "securityContext": {},
            "terminationGracePeriodSeconds": 30,
            "schedulerName": "default-scheduler",
        },
    )
    _default_account(spec)
    for volume in items(spec, "volumes"):
        _default_volume(volume)
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for container in items(spec, part):
            default_container(container)
            if spec.get("hostNetwork"):
                _default_host_ports(container)


def _default_account(spec: JSON) -> None:
    """`serviceAccount` is the old name of `serviceAccountName`; both are kept equal."""
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _default_host_ports(container: JSON) -> None:
    for port in items(container, "ports"):
        fill(port, {"hostPort": port.get("containerPort")})


def default_container(container: JSON) -> None:
    fill(
        container,
        {
            "imagePullPolicy": pull_policy(container.get("image") or ""),
            "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
            "resources": {},
        },
    )
    for port in items(container, "ports"):
        fill(port, {"protocol": "TCP"})
    for variable in items(container, "env"):
        _default_field_ref((variable.get("valueFrom") or {}).get("fieldRef"))
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        _default_probe(container.get(name))
    for hook in (container.get("lifecycle") or {}).values():
        _default_http_get((hook or {}).get("httpGet"))


def pull_policy(image: str) -> str:
    """`Always` for `:latest` or no tag; a digest is as good as a tag."""
    name, at, _ = image.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return "Always" if not at and tag in ("", "latest") else "IfNotPresent"


def _default_field_ref(reference: JSON | None) -> None:
    if reference is not None:
        fill(reference, {"apiVersion": "v1"})


def _default_probe(probe: JSON | None) -> None:
    if probe is None:
        return
    for name, value in (("timeoutSeconds", 1), ("periodSeconds", 10), ("successThreshold", 1), ("failureThreshold", 3)):
        if not probe.get(name):
            probe[name] = value
    _default_http_get(probe.get("httpGet"))
    if probe.get("grpc") is not None:
        fill(probe["grpc"], {"service": ""})


def _default_http_get(action: JSON | None) -> None:
    if action is not None:
        action["path"] = action.get("path") or "/"
        action["scheme"] = action.get("scheme") or "HTTP"


def _default_volume(volume: JSON) -> None:
    if not volume.keys() - {"name"}:
        volume["emptyDir"] = {}
    for source in ("secret", "configMap", "downwardAPI", "projected"):
        if volume.get(source) is not None:
            fill(volume[source], {"defaultMode": _MODE})
    if volume.get("hostPath") is not None:
        fill(volume["hostPath"], {"type": ""})
    _default_downward(volume.get("downwardAPI"))
    for projection in items(volume.get("projected") or {}, "sources"):
        _default_downward(projection.get("downwardAPI"))
        if projection.get("serviceAccountToken") is not None:
            fill(projection["serviceAccountToken"], {"expirationSeconds": _TOKEN_SECONDS})
    claim = ((volume.get("ephemeral") or {}).get("volumeClaimTemplate") or {}).get("spec")
    if claim is not None:
        fill(claim, {"volumeMode": "Filesystem"})


def _default_downward(source: JSON | None) -> None:
    for file in items(source or {}, "items"):
        _default_field_ref(file.get("fieldRef"))
