"""Types that several kinds of networking.istio.io share."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta

from mizzen.api.base import Duration, Model

UInt32: TypeAlias = Annotated[int, Meta(ge=0, le=4294967295)]
Int32: TypeAlias = Annotated[int, Meta(ge=-2147483648, le=2147483647)]
NonNegative: TypeAlias = Annotated[int, Meta(ge=0, le=2147483647)]
TlsVersion: TypeAlias = Literal["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"]
ServerTlsMode: TypeAlias = Literal[
    "PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"
]
ClientTlsMode: TypeAlias = Literal["DISABLE", "SIMPLE", "MUTUAL", "ISTIO_MUTUAL"]
SimpleLb: TypeAlias = Literal["UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST"]


class StringMatch(Model):
    """At most one of the three; none of them, in a header or query match, asks only for presence."""

    ONE_OF: ClassVar = (("exact", "prefix", "regex"),)

    exact: str | None = None
    prefix: str | None = None
    regex: str | None = None
    """RE2, matched against the whole text."""


class Percent(Model):
    value: float = 0.0


class PortSelector(Model):
    number: UInt32 = 0


class Destination(Model):
    """A service, or a subset of it; a short name belongs to the rule's own namespace."""

    host: str
    subset: str = ""
    port: PortSelector | None = None


class HeaderOperations(Model):
    set: dict[str, str] = {}
    add: dict[str, str] = {}
    remove: tuple[str, ...] = ()


class Headers(Model):
    """Header changes on the way to the service and back."""

    request: HeaderOperations | None = None
    response: HeaderOperations | None = None


class Port(Model):
    """A port of a Gateway server, a Sidecar listener or a ServiceEntry."""

    number: UInt32 = 0
    protocol: str = ""
    name: str = ""
    target_port: UInt32 = 0


class MatchLabels(Model):
    """Selects Pods that carry all of these labels."""

    match_labels: dict[str, Annotated[str, Meta(max_length=63)]] = {}


class HTTPRetry(Model):
    """Tries after the first one; `retry_on` is a comma-separated list of conditions and status codes."""

    attempts: Int32 = 0
    per_try_timeout: Duration | None = None
    retry_on: str = ""
    retry_remote_localities: bool | None = None
    retry_ignore_previous_hosts: bool | None = None
    backoff: Duration | None = None


GRPC_STATUSES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""By code, from 0: https://grpc.io/docs/guides/status-codes/"""
