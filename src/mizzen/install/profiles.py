"""Istio's installation profiles, as far as Mizzen serves them.

https://istio.io/latest/docs/setup/additional-setup/config-profiles/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

JSON: TypeAlias = dict[str, Any]

_INGRESS = "istio-ingressgateway"
_EGRESS = "istio-egressgateway"
_SMALL = {"requests": {"cpu": "10m", "memory": "40Mi"}}


def _components(*, control_plane: bool = True, ingress: bool = False, egress: bool = False) -> JSON:
    return {
        "base": {"enabled": control_plane},
        "pilot": {"enabled": control_plane},
        "ingressGateways": [{"name": _INGRESS, "enabled": ingress}],
        "egressGateways": [{"name": _EGRESS, "enabled": egress}],
    }


def _port(name: str, port: int, target: int) -> JSON:
    return {"name": name, "port": port, "targetPort": target, "protocol": "TCP"}


HTTP_PORTS = (_port("http2", 80, 8080), _port("https", 443, 8443))
INGRESS_PORTS = (_port("status-port", 15021, 15021), *HTTP_PORTS)
DEMO_INGRESS_PORTS = (*INGRESS_PORTS, _port("tcp", 31400, 31400), _port("tls", 15443, 15443))

PROFILES: Mapping[str, JSON] = {
    "default": {"profile": "default", "components": _components(ingress=True)},
    "demo": {
        "profile": "demo",
        "components": _components(ingress=True, egress=True),
        "meshConfig": {"accessLogFile": "/dev/stdout"},
        "values": {
            "global": {"proxy": {"resources": _SMALL}},
            "pilot": {"autoscaleEnabled": False, "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}}},
            "gateways": {
                _INGRESS: {"autoscaleEnabled": False, "resources": _SMALL, "ports": list(DEMO_INGRESS_PORTS)},
                _EGRESS: {"autoscaleEnabled": False, "resources": _SMALL},
            },
        },
    },
    "minimal": {"profile": "minimal", "components": _components()},
    "empty": {"profile": "empty", "components": _components(control_plane=False)},
}


def served_profiles() -> str:
    return ", ".join(sorted(PROFILES))
