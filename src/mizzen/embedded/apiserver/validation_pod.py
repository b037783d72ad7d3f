"""What must hold of a Pod's spec, alone or in a template. Paths begin where the spec stands (`spec.template.spec`)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from mizzen.embedded.apiserver import validation_names as check
from mizzen.embedded.apiserver.errors import Cause, invalid_value, required
from mizzen.kube.api import JSON

RESTART_POLICIES = ("Always", "Never", "OnFailure")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_SUFFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    **{name: Fraction(1000**power) for power, name in enumerate("kMGTPE", 1)},
    **{f"{name}i": Fraction(1024**power) for power, name in enumerate("KMGTPE", 1)},
}


def amount(quantity: Any) -> Fraction:
    """The exact value of a quantity such as `250m`. Raises ValueError."""
    text = str(quantity)
    number = text.rstrip("numkKMGTPEi")
    suffix = text[len(number) :]
    if suffix not in _SUFFIXES:
        raise ValueError(f"{text!r} is no quantity")
    return Fraction(number) * _SUFFIXES[suffix]


def pod_spec(spec: JSON, path: str, restart: tuple[str, ...] = RESTART_POLICIES) -> Iterator[Cause]:
    """All causes; `restart` narrows the allowed restart policies."""
    yield from check.needed(f"{path}.containers", spec.get("containers"))
    yield from _volumes(spec, path)
    yield from _containers(spec, path)
    yield from check.choice(f"{path}.restartPolicy", spec.get("restartPolicy"), restart)
    yield from check.choice(f"{path}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    yield from check.not_negative(f"{path}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds"))
    if account := spec.get("serviceAccountName"):
        yield from check.dns_subdomain(f"{path}.serviceAccountName", account)
    if hostname := spec.get("hostname"):
        yield from check.dns_label(f"{path}.hostname", hostname)


def _volumes(spec: JSON, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        at, name = f"{path}.volumes[{index}]", volume.get("name") or ""
        yield from _unique_name(f"{at}.name", name, seen)
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        for extra in sources[1:]:
            yield check.forbidden(f"{at}.{extra}", "may not specify more than 1 volume type")
        yield from _volume_source(volume, at)


def _volume_source(volume: JSON, path: str) -> Iterator[Cause]:
    for source, field in (("configMap", "name"), ("secret", "secretName"), ("persistentVolumeClaim", "claimName")):
        if volume.get(source) is not None:
            yield from check.needed(f"{path}.{source}.{field}", volume[source].get(field))
    if volume.get("hostPath") is not None:
        yield from check.needed(f"{path}.hostPath.path", volume["hostPath"].get("path"))


def _unique_name(field: str, name: str, seen: set[str]) -> Iterator[Cause]:
    if not name:
        yield required(field)
    elif name in seen:
        yield check.duplicate(field, name)
    else:
        yield from check.dns_label(field, name)
    seen.add(name)


def _containers(spec: JSON, path: str) -> Iterator[Cause]:
    volumes = {volume.get("name") for volume in spec.get("volumes") or ()}
    seen: set[str] = set()
    for part in ("containers", "initContainers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(part) or ()):
            at = f"{path}.{part}[{index}]"
            yield from _unique_name(f"{at}.name", container.get("name") or "", seen)
            yield from _container(container, at, volumes)


def _container(container: JSON, path: str, volumes: set[Any]) -> Iterator[Cause]:
    image = container.get("image") or ""
    if not image:
        yield required(f"{path}.image")
    elif image != image.strip():
        yield invalid_value(f"{path}.image", image, "must not have leading or trailing whitespace")
    yield from check.choice(f"{path}.imagePullPolicy", container.get("imagePullPolicy"), _PULL_POLICIES)
    yield from _ports(container, path)
    yield from _environment(container, path)
    yield from _mounts(container, path, volumes)
    for name in _PROBES:
        if container.get(name) is not None:
            yield from _probe(container[name], f"{path}.{name}", single=name != "readinessProbe")
    yield from _resources(container.get("resources") or {}, f"{path}.resources")


def _ports(container: JSON, path: str) -> Iterator[Cause]:
    names: set[str] = set()
    for index, port in enumerate(container.get("ports") or ()):
        at, name = f"{path}.ports[{index}]", port.get("name")
        if name:
            yield from check.port_name(f"{at}.name", name)
            if name in names:
                yield check.duplicate(f"{at}.name", name)
            names.add(name)
        yield from check.port_number(f"{at}.containerPort", port.get("containerPort"))
        if port.get("hostPort"):
            yield from check.port_number(f"{at}.hostPort", port["hostPort"])
        yield from check.protocol(f"{at}.protocol", port.get("protocol"))


def _environment(container: JSON, path: str) -> Iterator[Cause]:
    for index, variable in enumerate(container.get("env") or ()):
        at, name = f"{path}.env[{index}]", variable.get("name") or ""
        yield from check.needed(f"{at}.name", name)
        if "=" in name:
            told = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            yield invalid_value(f"{at}.name", name, told)
        source = variable.get("valueFrom")
        if source is not None and variable.get("value"):
            yield invalid_value(f"{at}.valueFrom", "", "may not be specified when `value` is not empty")
        if source is not None and len([each for each in source.values() if each is not None]) != 1:
            rule = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`"
            yield invalid_value(f"{at}.valueFrom", "", rule)


def _mounts(container: JSON, path: str, volumes: set[Any]) -> Iterator[Cause]:
    points: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        at, name, point = f"{path}.volumeMounts[{index}]", mount.get("name"), mount.get("mountPath")
        yield from check.needed(f"{at}.name", name)
        if name and name not in volumes:
            yield check.not_found(f"{at}.name", name)
        yield from check.needed(f"{at}.mountPath", point)
        if point in points:
            yield invalid_value(f"{at}.mountPath", point, "must be unique")
        points.add(point)


def _probe(probe: JSON, path: str, single: bool) -> Iterator[Cause]:
    handlers = [name for name in _HANDLERS if probe.get(name) is not None]
    if not handlers:
        yield required(path, "must specify a handler type")
    for extra in handlers[1:]:
        yield check.forbidden(f"{path}.{extra}", "may not specify more than 1 handler type")
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        yield from check.not_negative(f"{path}.{name}", probe.get(name))
    if single and probe.get("successThreshold", 1) != 1:
        yield invalid_value(f"{path}.successThreshold", probe["successThreshold"], "must be 1")
    for name in ("httpGet", "tcpSocket", "grpc"):
        if probe.get(name) is not None:
            yield from check.port_reference(f"{path}.{name}.port", probe[name].get("port"))


def _resources(resources: JSON, path: str) -> Iterator[Cause]:
    limits = resources.get("limits") or {}
    for kind in ("limits", "requests"):
        for name, quantity in (resources.get(kind) or {}).items():
            if amount(quantity) < 0:
                yield invalid_value(f"{path}.{kind}[{name}]", str(quantity), "must be greater than or equal to 0")
    for name, quantity in (resources.get("requests") or {}).items():
        if name in limits and amount(quantity) > amount(limits[name]):
            told = f"must be less than or equal to {name} limit of {limits[name]}"
            yield invalid_value(f"{path}.requests", str(quantity), told)
