"""What istiod shows of itself: version, metrics, who is in sync, and what a proxy was told."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from google.protobuf.json_format import MessageToDict

from mizzen import __version__
from mizzen.ads.subscription import TypeState
from mizzen.ads.target import Layers, names
from mizzen.controlplane.authority_page import page
from mizzen.controlplane.fleet import Connected
from mizzen.envoy.descriptors import api
from mizzen.envoy.messages import Cluster, ClusterLoadAssignment, Listener, RouteConfiguration
from mizzen.envoy.resources import CLUSTER, ENDPOINTS, EXTENSION, LISTENER, ROUTES, SECRET

if TYPE_CHECKING:
    from mizzen.controlplane.app import ControlPlane
    from mizzen.controlplane.web import Page

JSON: TypeAlias = dict[str, Any]

SHORT = {CLUSTER: "CDS", ENDPOINTS: "EDS", LISTENER: "LDS", ROUTES: "RDS", SECRET: "SDS", EXTENSION: "ECDS"}
_MESSAGES = {CLUSTER: Cluster, ENDPOINTS: ClusterLoadAssignment, LISTENER: Listener, ROUTES: RouteConfiguration}


class Debug:
    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def pages(self) -> Mapping[str, Page]:
        """By path."""
        return {
            "/version": lambda _: ("application/json", json.dumps({"version": __version__})),
            "/metrics": lambda _: ("text/plain", "\n".join(self._metrics()) + "\n"),
            "/debug/syncz": lambda _: ("application/json", json.dumps(self.sync())),
            "/debug/config_dump": lambda query: ("application/json", json.dumps(self.config_dump(query))),
            "/debug/ca": lambda _: ("application/json", json.dumps(self.authority())),
            "/debug/mesh": lambda _: ("application/json", json.dumps(self.problems())),
        }

    def sync(self) -> list[JSON]:
        """One entry per proxy: what it subscribed to, and whether it has acknowledged all of it."""
        return [self._proxy(member) for member in self._plane.fleet.proxies()]

    def _proxy(self, member: Connected) -> JSON:
        node = member.stream.node
        return {
            "proxy": f"{member.proxy.name}.{member.proxy.namespace}",
            "id": node.id,
            "type": member.kind,
            "cluster_id": node.metadata.get("CLUSTER_ID") or "Kubernetes",
            "istiod": self._plane.settings.name,
            "version": node.metadata.get("ISTIO_VERSION") or __version__,
            "connected": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(member.since)),
            "types": {SHORT.get(url, url): _state(state) for url, state in member.stream.types.items()},
            "refused": [
                {"type": SHORT.get(url, url), "name": name, "message": refusal.message}
                for (url, name), refusal in member.stream.session.refused.items()
            ],
        }

    def config_dump(self, query: Mapping[str, str]) -> JSON:
        """What one proxy (`proxyID=POD.NAMESPACE`) was told, by type. Raises LookupError."""
        wanted = query.get("proxyID", "")
        for member in self._plane.fleet.proxies():
            if wanted == f"{member.proxy.name}.{member.proxy.namespace}":
                return _told(member.layers)
        raise LookupError(f"no proxy {wanted!r} is connected to this istiod; write ?proxyID=POD.NAMESPACE")

    def authority(self) -> JSON:
        """Who signs, who is trusted, and how far one authority has followed another."""
        certificates = self._plane.certificates
        return {
            "istiod": self._plane.settings.name,
            "source": certificates.authority.source,
            "problem": certificates.authority.problem,
            **page(certificates.authority.current, certificates.ledger.holdings, certificates.proxies(), time.time()),
        }

    def problems(self) -> list[JSON]:
        return [
            {"code": one.code, "level": one.level, "object": f"{one.kind}/{one.namespace}/{one.name}", "path": one.path,
             "message": one.message}
            for one in self._plane.fleet.views.problems()
        ]  # fmt: skip

    def _metrics(self) -> Iterator[str]:
        """https://prometheus.io/docs/instrumenting/exposition_formats/"""
        fleet = self._plane.fleet
        resources, size = fleet.store.unique
        yield from _gauge("pilot_xds", "Proxies connected by ADS.", len(fleet.connected))
        yield from _gauge("mizzen_views", "Kinds of proxies that are told different things.", len(fleet.views))
        yield from _gauge("mizzen_resources", "Different resources that proxies hold.", resources)
        yield from _gauge("mizzen_resource_bytes", "Bytes of these resources.", size)
        yield from _gauge(
            "mizzen_pushes_total", "Changes that were looked at for all proxies.", fleet.pushes, "counter"
        )
        failures = fleet.views.failures
        yield from _gauge("mizzen_failures_total", "Views that could not be brought up to date.", failures, "counter")
        refused = sum(len(member.stream.session.refused) for member in fleet.proxies())
        yield from _gauge("mizzen_refused_resources", "Resources that proxies refuse.", refused)
        sent = sum(member.stream.bytes_sent for member in fleet.proxies())
        yield from _gauge("mizzen_sent_bytes", "Bytes sent to the proxies that are connected.", sent)
        name = "pilot_proxy_convergence_time"
        yield f"# HELP {name} Seconds from a change to the last proxy's acknowledgement."
        yield f"# TYPE {name} histogram"
        yield from fleet.latency.lines(name)


def _gauge(name: str, text: str, value: float, kind: str = "gauge") -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    yield f"{name} {value:g}"


def _state(state: TypeState) -> JSON:
    """Istio's words: STALE is sent and not acknowledged, ERROR refused."""
    word = "ERROR" if state.refused else "STALE" if state.in_flight or state.pending else "SYNCED"
    return {"state": word, "held": state.held}


def _told(layers: Layers) -> JSON:
    return {
        SHORT[url]: {
            name: MessageToDict(message.FromString(layer[url][name].body), descriptor_pool=api().pool)
            for layer in layers
            for name in names((layer,), url)
        }
        for url, message in _MESSAGES.items()
    }
