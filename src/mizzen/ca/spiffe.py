"""Who a workload is: `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT`.

https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_ID = re.compile(r"spiffe://(?P<trust_domain>[a-z0-9._-]{1,255})/ns/(?P<namespace>[^/]+)/sa/(?P<service_account>[^/]+)")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Identity:
    """A service account in a namespace of a trust domain. `str()` gives the SPIFFE id."""

    trust_domain: str
    namespace: str
    service_account: str

    def __post_init__(self) -> None:
        for part in (self.trust_domain, self.namespace, self.service_account):
            if not _NAME.fullmatch(part):
                raise ValueError(f"{part!r} cannot be part of a SPIFFE id: it is not a Kubernetes name")

    def __str__(self) -> str:
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @classmethod
    def parse(cls, uri: str) -> Identity:
        """Raises ValueError for anything but Istio's form of a SPIFFE id."""
        match = _ID.fullmatch(uri)
        if not match:
            raise ValueError(f"{uri!r} is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICEACCOUNT")
        return cls(match["trust_domain"], match["namespace"], match["service_account"])


@dataclass(frozen=True, slots=True)
class Workload:
    """What runs in a Pod, as the API server knows it: telemetry labels peers with it."""

    name: str
    namespace: str
    app: str
    version: str


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a certificate. `workload` is None when the token is not of a Pod that can be seen."""

    identity: Identity
    workload: Workload | None = None
    pod: str = ""
    """The name of the Pod that the token is bound to; "" for a token of none."""
