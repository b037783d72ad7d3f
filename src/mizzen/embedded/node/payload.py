"""What the files of configMap, secret, downwardAPI and projected volumes contain. Pure.

https://kubernetes.io/docs/concepts/storage/projected-volumes/
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mizzen.embedded.node.environment import Source
from mizzen.embedded.node.fields import Capacity, PodAddresses, Unresolved, field, resource_field
from mizzen.kube.api import JSON

DEFAULT_MODE = 0o644

Kind: TypeAlias = Literal["ConfigMap", "Secret"]
Reference: TypeAlias = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class File:
    content: bytes
    mode: int = DEFAULT_MODE


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A service account token that a projected volume asks for. No audience means the API server's."""

    path: str
    audience: str
    seconds: int


@dataclass(frozen=True, slots=True)
class Ingredients:
    """What payloads are made of. `token` gives the current token for a request."""

    addresses: PodAddresses
    capacity: Capacity
    source: Source
    token: Callable[[TokenRequest], str]


def is_payload(volume: JSON) -> bool:
    return any(kind in volume for kind in ("configMap", "secret", "downwardAPI", "projected"))


def files(pod: JSON, volume: JSON, of: Ingredients) -> dict[str, File]:
    """Relative path → file. Raises Unresolved when something that is not optional is missing."""
    for kind in ("configMap", "secret", "downwardAPI"):
        if kind in volume:
            return _source_files(pod, kind, volume[kind], volume[kind].get("defaultMode") or DEFAULT_MODE, of)
    projected = volume["projected"]
    mode = projected.get("defaultMode") or DEFAULT_MODE
    result: dict[str, File] = {}
    for source in projected.get("sources") or ():
        for kind, spec in source.items():
            result.update(_source_files(pod, kind, spec, mode, of))
    return result


def _source_files(pod: JSON, kind: str, spec: JSON, mode: int, of: Ingredients) -> dict[str, File]:
    match kind:
        case "configMap":
            return _selected("ConfigMap", spec.get("name", ""), spec, mode, of.source)
        case "secret":
            return _selected("Secret", spec.get("secretName") or spec.get("name", ""), spec, mode, of.source)
        case "downwardAPI":
            return {
                each["path"]: File(_downward(pod, each, of), each.get("mode") or mode)
                for each in spec.get("items") or ()
            }
        case "serviceAccountToken":
            request = token_request(spec)
            return {request.path: File(of.token(request).encode(), mode)}
    raise Unresolved(f"projected volumes of {kind} are not supported")


def _selected(kind: Kind, name: str, spec: JSON, mode: int, source: Source) -> dict[str, File]:
    obj = source(kind, name)
    if obj is None:
        if spec.get("optional"):
            return {}
        raise Unresolved(f'{kind.lower()} "{name}" not found')
    content = entries(obj)
    if not spec.get("items"):
        return {key: File(value, mode) for key, value in content.items()}
    return dict(_items(kind, name, spec, mode, content))


def _items(kind: Kind, name: str, spec: JSON, mode: int, content: Mapping[str, bytes]) -> Iterator[tuple[str, File]]:
    for item in spec["items"]:
        if item["key"] in content:
            yield item["path"], File(content[item["key"]], item.get("mode") or mode)
        elif not spec.get("optional"):
            raise Unresolved(f'{kind.lower()} "{name}" has no key {item["key"]!r}')


def entries(obj: JSON) -> dict[str, bytes]:
    """All entries of a ConfigMap or a Secret as bytes."""
    data = obj.get("data") or {}
    if obj.get("kind") == "Secret":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = {key: base64.b64decode(value) for key, value in (obj.get("binaryData") or {}).items()}
    return {**{key: value.encode() for key, value in data.items()}, **binary}


def _downward(pod: JSON, item: JSON, of: Ingredients) -> bytes:
    if reference := item.get("fieldRef"):
        return field(pod, reference["fieldPath"], of.addresses).encode()
    reference = item["resourceFieldRef"]
    return resource_field(pod, reference, reference.get("containerName", ""), of.capacity).encode()


def token_request(spec: JSON) -> TokenRequest:
    return TokenRequest(spec["path"], spec.get("audience") or "", int(spec.get("expirationSeconds") or 3600))


def token_requests(volumes: Sequence[JSON]) -> list[TokenRequest]:
    """Every token that the volumes ask for."""
    return [
        token_request(source["serviceAccountToken"]) for source in _sources(volumes) if "serviceAccountToken" in source
    ]


def _sources(volumes: Sequence[JSON]) -> Iterator[JSON]:
    for volume in volumes:
        yield from (volume.get("projected") or {}).get("sources") or ()


def references(pod: JSON) -> set[Reference]:
    """The ConfigMaps and Secrets that volumes and environments of the Pod name."""
    found: set[Reference] = set()
    volumes = pod["spec"].get("volumes") or []
    for source in (*volumes, *_sources(volumes)):
        if "configMap" in source:
            found.add(("ConfigMap", source["configMap"].get("name", "")))
        if "secret" in source:
            found.add(("Secret", source["secret"].get("secretName") or source["secret"].get("name", "")))
    for part in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod["spec"].get(part) or ():
            found |= set(_environment_references(container))
    return found


def _environment_references(container: JSON) -> Iterator[Reference]:
    for origin in (
        *(container.get("envFrom") or ()),
        *(each.get("valueFrom") or {} for each in container.get("env") or ()),
    ):
        for key in ("configMapRef", "configMapKeyRef"):
            if key in origin:
                yield "ConfigMap", origin[key]["name"]
        for key in ("secretRef", "secretKeyRef"):
            if key in origin:
                yield "Secret", origin[key]["name"]
