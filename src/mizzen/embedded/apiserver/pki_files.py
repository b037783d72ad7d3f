"""Where the cluster's keys and certificates are kept, `pki/` (files 0600), and kubeconfig text for them.

ca.crt ca.key             the cluster's own authority
serving.crt serving.key   the API server
admin.crt admin.key       the person who started the cluster (group system:masters)
node.crt node.key         the node daemon (system:node:mizzen, group system:nodes)
sa.key sa.pub             signs service-account tokens (ES256)

Commands read this too: it loads no cryptography.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import yaml


@dataclass(frozen=True, slots=True)
class Pki:
    """Paths of PEM files; what is inside them is read where it is needed."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def service_account_key(self) -> Path:
        return self.folder / "sa.key"

    def certificate(self, name: str) -> Path:
        """`name` is serving, admin or node."""
        return self.folder / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"


def kubeconfig(pki: Pki, server: str, cluster: str = "mizzen", user: str = "admin") -> str:
    """Kubeconfig text with everything embedded; `user` is admin or node."""
    # Clients are on this machine: to compress answers for them would take longer than to carry them.
    place = {"server": server, "certificate-authority-data": _base64(pki.ca), "disable-compression": True}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": place}],
        "users": [
            {
                "name": f"{cluster}-{user}",
                "user": {
                    "client-certificate-data": _base64(pki.certificate(user)),
                    "client-key-data": _base64(pki.key(user)),
                },
            }
        ],
        "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": f"{cluster}-{user}"}}],
        "current-context": cluster,
    }
    return yaml.safe_dump(document, sort_keys=False)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
