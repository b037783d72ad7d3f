"""The one ledger of what is legal in Istio and not honoured here yet, with the reason and what is done about it.

Admission answers from it, and `docs/reference/fields.md` is generated from it: nothing is dropped in silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mizzen.api.base import Model
from mizzen.api.paths import join


class Entry(Model):
    """One field, or a whole kind (`path` is "")."""

    kind: str
    path: str
    """`spec.http[].delegate`; `[]` stands for every item of a list, `*` for every key of a map."""
    reason: str
    verdict: Literal["refuse", "warn", "follows"] = "refuse"
    """`follows`: what users are told comes from elsewhere, from another field or from the rules of the kind."""
    except_values: tuple[str, ...] = ()
    """Values that already mean what happens anyway."""


_NOT_SERVED = "this kind is not served yet"

_WHOLE_KINDS = {
    "ServiceEntry": _NOT_SERVED,
    "Sidecar": _NOT_SERVED,
    "WorkloadEntry": _NOT_SERVED,
    "WorkloadGroup": _NOT_SERVED,
    "EnvoyFilter": _NOT_SERVED,
    "ProxyConfig": f"{_NOT_SERVED}; the annotation proxy.istio.io/config of a Pod is",
    "Telemetry": f"{_NOT_SERVED}; accessLogFile of the mesh's configuration is",
    "WasmPlugin": _NOT_SERVED,
    "TrafficExtension": _NOT_SERVED,
}

_NO_LOCALITY = "endpoints are not chosen by locality yet"

_VIRTUAL_SERVICE = (
    Entry(kind="VirtualService", path="spec.http[].delegate", reason="VirtualServices cannot delegate yet"),
    Entry(
        kind="VirtualService",
        path="spec.tcp[].match[].sourceSubnet",
        reason="Istio ignores this field, too",
        verdict="warn",
    ),
)
_GATEWAY = (
    Entry(
        kind="Gateway",
        path="spec.servers[].defaultEndpoint",
        reason="Istio ignores this field, too",
        verdict="warn",
    ),
)
_POLICY_LEVELS = ("spec.trafficPolicy", "spec.subsets[].trafficPolicy")
_BLOCK_LEVELS = (*_POLICY_LEVELS, *(f"{level}.portLevelSettings[]" for level in _POLICY_LEVELS))
_POLICY_FIELDS = {
    "tunnel": "connections through a tunnel are not built yet",
    "proxyProtocol": "the PROXY protocol is not spoken to services yet",
}
_BLOCK_FIELDS = {
    "loadBalancer.localityLbSetting": _NO_LOCALITY,
    "loadBalancer.zoneAwareLbSetting": _NO_LOCALITY,
    "loadBalancer.backendUtilization": "Istio does not honour this field yet, either",
}
_DESTINATION_RULE = (
    *(
        Entry(kind="DestinationRule", path=f"{level}.{field}", reason=reason)
        for level in _POLICY_LEVELS
        for field, reason in _POLICY_FIELDS.items()
    ),
    *(
        Entry(kind="DestinationRule", path=f"{level}.{field}", reason=reason)
        for level in _BLOCK_LEVELS
        for field, reason in _BLOCK_FIELDS.items()
    ),
    *(
        Entry(
            kind="DestinationRule",
            path=f"{level}.outlierDetection.consecutiveErrors",
            reason="the old form; write consecutive5xxErrors or consecutiveGatewayErrors",
            verdict="warn",
            except_values=("0",),
        )
        for level in _BLOCK_LEVELS
    ),
)

_WAYPOINTS = (
    "policies for it are enforced by waypoints, and there are none; write a selector for the Pods, or target a Gateway"
)
_SECURITY = (
    *(
        Entry(kind=kind, path=f"spec.{field}.kind", reason=_WAYPOINTS, except_values=("Gateway",))
        for kind in ("RequestAuthentication", "AuthorizationPolicy")
        for field in ("targetRef", "targetRefs[]")
    ),
    Entry(
        kind="RequestAuthentication",
        path="spec.jwtRules[].presence",
        reason="Istio does not honour this field yet, either; an AuthorizationPolicy can require a token",
        except_values=("OPTIONAL",),
    ),
)

_ONLY_SERVICES = "only Services are served; requests to anything else get 503"
_INGRESS = (
    *(
        Entry(kind="Ingress", path=f"{path}.resource", reason=_ONLY_SERVICES, verdict="warn")
        for path in ("spec.defaultBackend", "spec.rules[].http.paths[].backend")
    ),
    Entry(kind="IngressClass", path="spec.parameters", reason="Istio ignores this field, too", verdict="warn"),
)

_REFUSED_BY_ISTIO = (
    ("Gateway", "spec.servers[].port.targetPort"),
    ("VirtualService", "spec.http[].fault.delay.exponentialDelay"),
    ("VirtualService", "spec.http[].fault.abort.http2Error"),
)

LEDGER: tuple[Entry, ...] = (
    *(Entry(kind=kind, path="", reason=reason) for kind, reason in _WHOLE_KINDS.items()),
    *_GATEWAY,
    *_VIRTUAL_SERVICE,
    *_DESTINATION_RULE,
    *_SECURITY,
    *_INGRESS,
    *(
        Entry(kind=kind, path=path, reason="**refused**, as by Istio", verdict="follows")
        for kind, path in _REFUSED_BY_ISTIO
    ),
)


def not_honoured(kind: str, document: Mapping[str, Any]) -> Iterator[tuple[str, Entry]]:
    """The entries that a document runs into, each with the exact path; a whole kind has the path ""."""
    for entry in LEDGER:
        if entry.kind == kind and entry.verdict != "follows":
            for path, value in _occurrences(document, entry.path.split(".") if entry.path else [], ""):
                if str(value) not in entry.except_values:
                    yield path, entry


def _occurrences(value: Any, steps: list[str], path: str) -> Iterator[tuple[str, Any]]:
    if not steps:
        yield path, value
        return
    name, items, _ = steps[0].partition("[]")
    inner = value.get(name) if isinstance(value, Mapping) else None
    here = join(path, name)
    if items:
        for index, item in enumerate(inner if isinstance(inner, list) else ()):
            yield from _occurrences(item, steps[1:], join(here, index))
    elif inner is not None:
        yield from _occurrences(inner, steps[1:], here)
