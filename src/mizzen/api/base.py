"""The dialect all models share: frozen structs with Kubernetes' camelCase names on the wire."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Generic, TypeVar, dataclass_transform

import msgspec


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _Frozen(msgspec.StructMeta):
    """msgspec does not inherit `kw_only`; this metaclass gives it to every subclass, and tells mypy."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        return super().__new__(mcls, name, bases, namespace, **{"kw_only": True, **options})


class Model(msgspec.Struct, metaclass=_Frozen, frozen=True, rename="camel", omit_defaults=True, dict=True):
    """A frozen struct. Absent and "default written out" stay different: optional fields are None."""


_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


class Duration(timedelta):
    """A Go duration such as `1h30m` or `250ms`; a `timedelta` to protobuf."""

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError for what Go's `time.ParseDuration` would refuse."""
        parts = _DURATION.findall(text)
        if "".join(number + unit for number, unit in parts) != text or not text:
            raise ValueError(f"{text!r} is not a duration; write for example 10s, 250ms or 1h30m")
        return cls(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


class Metadata(Model):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None


S = TypeVar("S")


class Object(Model, Generic[S]):
    """Any API object: `spec` is the typed part, `status` stays as it came."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata = Metadata()
    spec: S
    status: dict[str, object] | None = None


class Problem(Model):
    """The only error of the core: a finding about a user's resource, as a value."""

    code: str
    """An IST0xxx code where Istio has one, else MZ0xxx."""
    level: str
    """error, warning or info."""
    kind: str
    namespace: str
    name: str
    path: str
    """JSON path in the object, for example `spec.http[0].route[0].destination.host`."""
    message: str
    """What is wrong, why, and how to mend it; one or two sentences."""
