"""Ingress: what an API server accepts, and what then serves nobody."""

from __future__ import annotations

from mizzen.api.ingress import Ingress
from mizzen.api.legality.finding import Findings, warning


def ingress(obj: Ingress) -> Findings:
    spec = obj.spec
    for index, tls in enumerate(spec.tls):
        if not tls.secret_name:
            message = "without a Secret there is nothing to decrypt with: these hosts are served without TLS alone"
            yield warning(f"spec.tls[{index}].secretName", message)
    for index, rule in enumerate(spec.rules):
        if not (rule.http and rule.http.paths) and spec.default_backend is None:
            yield warning(
                f"spec.rules[{index}]", "a rule without paths, where no defaultBackend answers, serves nothing"
            )
