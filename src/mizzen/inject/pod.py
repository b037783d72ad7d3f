"""Injection: a Pod (or Pod template) in, the same with a sidecar out.

The webhook and `kube-inject` call the same function, so that both give the same Pod.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from mizzen.inject.annotations import TEMPLATES, InvalidAnnotation, check, proxy_config
from mizzen.inject.overlay import overlaid
from mizzen.inject.probes import rewritten
from mizzen.inject.selection import REVISION, STATUS, decision
from mizzen.inject.settings import Settings
from mizzen.inject.template import (
    INIT,
    PROXY,
    PROXY_UID,
    Subject,
    holds_application,
    init_container,
    proxy_container,
    volumes,
)
from mizzen.inject.workload import (
    CANONICAL_NAME,
    CANONICAL_REVISION,
    Workload,
    canonical_name,
    canonical_revision,
    workload_of,
)

JSON: TypeAlias = dict[str, Any]

TLS_MODE = "security.istio.io/tlsMode"
DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
DEFAULT_LOGS_CONTAINER = "kubectl.kubernetes.io/default-logs-container"
_PROMETHEUS = {part: f"prometheus.io/{part}" for part in ("scrape", "path", "port")}
_PROMETHEUS_PATH = "/stats/prometheus"


def inject(pod: JSON, namespace: str, settings: Settings, workload: Workload | None = None) -> JSON | None:
    """The Pod with a sidecar (or as a gateway), or None when it is to stay as it is.

    `workload` is who it belongs to where the Pod itself cannot say (a template). Raises InvalidAnnotation.
    """
    if not decision(pod, namespace, settings.policy).inject:
        return None
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    check(annotations)
    if _uses_proxy_uid(pod):
        raise InvalidAnnotation(f"user id {PROXY_UID} is the proxy's own: no container of the Pod may run as it")
    written, read = proxy_config(annotations, settings.proxy_config)
    subject = Subject(
        pod={**pod, "metadata": pod.get("metadata") or {}},
        namespace=namespace,
        workload=workload or workload_of(pod.get("metadata") or {}),
        settings=settings,
        proxy_config=read,
        written_config=written,
        kind=_template(annotations),
    )
    spec = _sidecar_spec(subject) if subject.kind == "sidecar" else _gateway_spec(subject)
    return {**subject.pod, "metadata": _metadata(subject, spec), "spec": spec}


def _template(annotations: Mapping[str, str]) -> Any:
    kinds = {"sidecar": "sidecar", "gateway": "router"}
    asked = [name.strip() for name in annotations.get(TEMPLATES, "sidecar").split(",")]
    if len(asked) != 1 or asked[0] not in kinds:
        raise InvalidAnnotation(f"annotation {TEMPLATES}: {','.join(asked)!r} is not served; write sidecar or gateway")
    return kinds[asked[0]]


def _uses_proxy_uid(pod: JSON) -> bool:
    containers = [*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())]
    contexts = [one.get("securityContext") or {} for one in containers if one["name"] not in (PROXY, INIT)]
    return any(context.get("runAsUser") == PROXY_UID for context in contexts)


def _sidecar_spec(subject: Subject) -> JSON:
    spec, own = subject.pod["spec"], _own_proxy(subject)
    proxy = overlaid(proxy_container(subject), own)
    apps, app_inits, originals = _apps(subject)
    if originals:
        proxy["env"] = [*proxy["env"], {"name": "ISTIO_KUBE_APP_PROBERS", "value": _json(originals)}]
    if scraped := _app_metrics(subject):
        proxy["env"] = [*proxy["env"], {"name": "ISTIO_PROMETHEUS_ANNOTATIONS", "value": _json(scraped)}]
    init = [init_container(subject)] if subject.interception != "NONE" else []
    if subject.native:
        containers, inits = apps, [*init, proxy, *app_inits]
    else:
        containers = [proxy, *apps] if holds_application(subject) else [*apps, proxy]
        inits = [*app_inits, *init]
    return {
        **spec,
        "containers": containers,
        **({"initContainers": inits} if inits else {}),
        **_volumes(subject),
    }


def _own_proxy(subject: Subject) -> JSON:
    """The user's own `istio-proxy` container; `image: auto` leaves the image to us."""
    spec = subject.pod["spec"]
    candidates = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    own: JSON = next((one for one in candidates if one["name"] == PROXY), {})
    return {key: value for key, value in own.items() if (key, value) != ("image", "auto")}


def _apps(subject: Subject) -> tuple[list[JSON], list[JSON], JSON]:
    """App containers and init containers, probes led to the agent, and the original probes."""
    spec = subject.pod["spec"]
    lists = [
        [one for one in spec.get(field) or () if one["name"] not in (PROXY, INIT)]
        for field in ("containers", "initContainers")
    ]
    if not _rewrites_probes(subject):
        return lists[0], lists[1], {}
    done = [[rewritten(one, subject.status_port) for one in containers] for containers in lists]
    originals = {path: probe for containers in done for _, found in containers for path, probe in found.items()}
    return [one for one, _ in done[0]], [one for one, _ in done[1]], originals


def _rewrites_probes(subject: Subject) -> bool:
    default = subject.settings.values.sidecar_injector_webhook.rewrite_app_http_probe
    return subject.annotation("sidecar.istio.io/rewriteAppHTTPProbers", str(default).lower()) == "true"


def _gateway_spec(subject: Subject) -> JSON:
    """The gateway template: the user's `istio-proxy` (`image: auto`) becomes a router."""
    spec = subject.pod["spec"]
    proxy = overlaid(proxy_container(subject), _own_proxy(subject))
    sysctls = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    return {
        **spec,
        "securityContext": {"sysctls": sysctls, **(spec.get("securityContext") or {})},
        "containers": [proxy, *subject.app_containers],
        **_volumes(subject),
    }


def _volumes(subject: Subject) -> JSON:
    """A volume of the user's with one of our names wins, as a template's overlay would have it."""
    own = subject.pod["spec"].get("volumes") or []
    taken = {volume["name"] for volume in own}
    secrets = subject.settings.values.global_.image_pull_secrets
    pulls = [*(subject.pod["spec"].get("imagePullSecrets") or ()), *({"name": name} for name in secrets)]
    added = [volume for volume in volumes(subject) if volume["name"] not in taken]
    return {"volumes": [*own, *added], **({"imagePullSecrets": pulls} if pulls else {})}


def _metadata(subject: Subject, spec: JSON) -> JSON:
    labels = {
        **({TLS_MODE: "istio"} if subject.kind == "sidecar" else {}),
        CANONICAL_NAME: canonical_name(subject.labels, subject.workload.name),
        CANONICAL_REVISION: canonical_revision(subject.labels),
        **subject.labels,
    }
    return {
        **subject.pod["metadata"],
        "labels": labels,
        "annotations": {**_default_containers(subject), **_scraping(subject), **_marks(subject, spec)},
    }


def _default_containers(subject: Subject) -> JSON:
    """`kubectl logs` and `exec` mean the app, wherever the proxy stands."""
    if not subject.app_containers:
        return {}
    first = subject.app_containers[0]["name"]
    return {DEFAULT_CONTAINER: first, DEFAULT_LOGS_CONTAINER: first}


def _scraping(subject: Subject) -> JSON:
    """The user's annotations, with scraping led to the agent's merged metrics unless that is turned off."""
    if not _merges_metrics(subject):
        return dict(subject.annotations)
    own = {name: value for name, value in subject.annotations.items() if name not in _PROMETHEUS.values()}
    return {
        **own,
        _PROMETHEUS["scrape"]: "true",
        _PROMETHEUS["path"]: _PROMETHEUS_PATH,
        _PROMETHEUS["port"]: str(subject.status_port),
    }


def _app_metrics(subject: Subject) -> JSON:
    """What the Pod asked to be scraped, for the agent to merge; nothing if it points at the agent already."""
    asked = {part: subject.annotations[name] for part, name in _PROMETHEUS.items() if name in subject.annotations}
    return asked if _merges_metrics(subject) and asked.get("port") != str(subject.status_port) else {}


def _merges_metrics(subject: Subject) -> bool:
    default = str(subject.settings.mesh.enable_prometheus_merge).lower()
    return subject.annotation("prometheus.istio.io/merge-metrics", default) == "true"


def _marks(subject: Subject, spec: JSON) -> JSON:
    """What was added, by name: tools read it, and a second injection sees it."""
    before = subject.pod["spec"]
    status = {
        "initContainers": _added(before, spec, "initContainers"),
        "containers": _added(before, spec, "containers"),
        "volumes": _added(before, spec, "volumes"),
        "imagePullSecrets": _added(before, spec, "imagePullSecrets"),
        "revision": subject.settings.revision,
    }
    return {
        **subject.settings.policy.injected_annotations,
        REVISION: subject.settings.revision,
        STATUS: _json(status),
    }


def _added(before: JSON, after: JSON, field: str) -> list[str] | None:
    known = {one["name"] for one in before.get(field) or ()}
    return [one["name"] for one in after.get(field) or () if one["name"] not in known] or None


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
