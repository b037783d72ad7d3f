"""PeerAuthentication."""

from __future__ import annotations

from mizzen.api.legality.finding import Finding, Findings
from mizzen.api.legality.selectors import match_labels
from mizzen.api.paths import join
from mizzen.api.peer_authentication import PeerAuthentication

_HIGHEST_PORT = 65535


def peer_authentication(obj: PeerAuthentication) -> Findings:
    spec = obj.spec
    if spec.selector is not None:
        yield from match_labels("spec.selector", spec.selector)
    if spec.port_level_mtls and not (spec.selector and spec.selector.match_labels):
        yield Finding(
            "spec.portLevelMtls", "mesh/namespace peer authentication cannot have port level mTLS: add a selector"
        )
    for port in spec.port_level_mtls:
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= _HIGHEST_PORT):
            yield Finding(join("spec.portLevelMtls", port), f"port must be between 1-{_HIGHEST_PORT}, not {port!r}")
