"""The dialect all models share: frozen structs with Kubernetes' camelCase names on the wire."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any, Generic, TypeVar, dataclass_transform

import msgspec


class _KeywordOnly(msgspec.StructMeta):
    """msgspec does not inherit `kw_only`; this gives it to every subclass."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        return super().__new__(mcls, name, bases, namespace, **{"kw_only": True, **options})


# The decorator says to type checkers what the metaclass and the options do.
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Model(msgspec.Struct, metaclass=_KeywordOnly, frozen=True, rename="camel", omit_defaults=True, dict=True):
    """A frozen struct. Absent and "default written out" stay different: optional fields are None."""


_PART = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(h|ms|us|µs|ns|m|s)")
_MICROSECONDS = {"h": 3_600_000_000.0, "m": 60_000_000.0, "s": 1e6, "ms": 1e3, "us": 1.0, "µs": 1.0, "ns": 1e-3}


class Duration(timedelta):
    """A Go duration such as `1h30m` or `250ms`; a `timedelta` to protobuf."""

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Raises ValueError for what Go's `time.ParseDuration` would refuse."""
        sign, bare = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
        parts = _PART.findall(bare)
        if bare != "0" and (not parts or "".join(number + unit for number, unit in parts) != bare):
            raise ValueError(f"{text!r} is not a duration; write for example 10s, 250ms or 1h30m")
        return cls(microseconds=sign * sum(float(number) * _MICROSECONDS[unit] for number, unit in parts))

    def __str__(self) -> str:
        """As Go prints it, down to the microsecond: `10s`, `0.25s`."""
        seconds, micros = divmod(round(self.total_seconds() * 1e6), 1_000_000)
        return f"{seconds}.{micros:06}".rstrip("0").rstrip(".") + "s"


class Metadata(Model):
    """The parts of ObjectMeta that decide something. Timestamps are RFC 3339 in UTC and therefore sort as text."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    owner_references: tuple[OwnerReference, ...] = ()


class OwnerReference(Model):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Resource(Model):
    """Any API object."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata = Metadata()

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def age_key(self) -> tuple[str, str, str]:
        """Sorts oldest first; a tie (timestamps are whole seconds) goes by name and namespace, as in Istio."""
        return self.metadata.creation_timestamp, self.metadata.name, self.metadata.namespace


S = TypeVar("S")


class Object(Resource, Generic[S]):
    """An API object with a specification: `spec` is the typed part, `status` stays as it came."""

    spec: S
    status: dict[str, Any] | None = None


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
