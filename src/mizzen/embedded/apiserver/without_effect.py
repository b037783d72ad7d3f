"""What a Pod may ask for and does not get here: legal, stored, and told to whoever writes it. Pure.

A warning is for the writer of the object itself; Pods that controllers make of a template are not warned of again.
"""

from __future__ import annotations

from collections.abc import Iterator

from mizzen.kube.api import JSON

_POD = ("runtimeClassName", "overhead", "resources", "resourceClaims")
_SECURITY = ("seLinuxOptions", "appArmorProfile", "windowsOptions")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def warnings(obj: JSON) -> list[str]:
    """One for each field of the Pods that `obj` is or makes, as "spec.runtimeClassName has no effect here"."""
    path, spec = _pod_spec(obj)
    return [f"{path}.{field} has no effect here" for field in _of_pod(spec)] if spec else []


def _pod_spec(obj: JSON) -> tuple[str, JSON]:
    """Of a Pod, of what has a template, and of what makes things that have one."""
    spec = obj.get("spec") or {}
    if obj.get("kind") == "Pod":
        return "spec", spec
    path = "spec"
    if "jobTemplate" in spec:
        path, spec = "spec.jobTemplate.spec", (spec["jobTemplate"] or {}).get("spec") or {}
    return f"{path}.template.spec", (spec.get("template") or {}).get("spec") or {}


def _of_pod(spec: JSON) -> Iterator[str]:
    yield from (name for name in _POD if spec.get(name))
    if spec.get("hostUsers") is False:
        yield "hostUsers"
    affinity = spec.get("affinity") or {}
    for name in ("podAffinity", "podAntiAffinity"):
        if (affinity.get(name) or {}).get(_REQUIRED):
            yield f"affinity.{name}.{_REQUIRED}"
    if any(each.get("whenUnsatisfiable") == "DoNotSchedule" for each in spec.get("topologySpreadConstraints") or ()):
        yield "topologySpreadConstraints"
    yield from (f"securityContext.{name}" for name in _of_security(spec.get("securityContext") or {}))
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or ()):
            yield from (f"{part}[{index}].{name}" for name in _of_container(container))


def _of_container(container: JSON) -> Iterator[str]:
    if container.get("volumeDevices"):
        yield "volumeDevices"
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("mountPropagation") not in (None, "", "None"):
            yield f"volumeMounts[{index}].mountPropagation"
    security = container.get("securityContext") or {}
    yield from (f"securityContext.{name}" for name in _of_security(security))
    if security.get("procMount") not in (None, "", "Default"):
        yield "securityContext.procMount"


def _of_security(security: JSON) -> Iterator[str]:
    """Profiles of the runtime's own are asked for everywhere: that there are none is for the documentation to say."""
    yield from (name for name in _SECURITY if security.get(name))
    if (security.get("seccompProfile") or {}).get("type") == "Localhost":
        yield "seccompProfile"
