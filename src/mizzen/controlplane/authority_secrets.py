"""Authorities as Secrets hold them: Istio's two, and the record of who is in force. Pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509

from mizzen.ca.authority import Root, join, unique
from mizzen.ca.succession import Retired, Succession
from mizzen.kube.api import JSON

SELF_SIGNED = "istio-ca-secret"
PLUGGED_IN = "cacerts"
IN_FORCE = "istio-ca-in-force"
"""Who signs now, who will and who did: what was in the other two goes on until its successor is trusted."""
SELF_SIGNED_TYPE = "istio.io/ca-root"
IN_FORCE_TYPE = "mizzen.io/ca-in-force"
ROTATE = "ca.mizzen.io/rotate"
"""Annotation of `istio-ca-secret` that asks for a new root. Its value is told in the log."""
_AGEING = 0.2
"""Share of a root's life that is left when it is replaced: Istio's."""


def secret(name: str, namespace: str, type_: str, data: Mapping[str, bytes]) -> JSON:
    encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": type_, "data": encoded}


def self_signed_data(root: Root) -> dict[str, bytes]:
    certificate, key = root.to_pem()
    return {"ca-cert.pem": certificate, "ca-key.pem": key}


def self_signed(stored: JSON) -> Root:
    """From `istio-ca-secret`. Raises ValueError."""
    data = _decoded(stored)
    try:
        return Root.from_pem(data["ca-cert.pem"], data["ca-key.pem"])
    except KeyError as error:
        raise ValueError(f"Secret {SELF_SIGNED} has no {error}: delete it, and a new root is made") from error
    except ValueError as error:
        raise ValueError(f"Secret {SELF_SIGNED} cannot be used: {error}") from error


def plugged_in(stored: JSON, now: datetime) -> Root:
    """From `cacerts`. Raises ValueError, also for an authority whose time is over."""
    data = _decoded(stored)
    try:
        root = Root.plugged_in(*(data[f"{name}.pem"] for name in ("ca-cert", "ca-key", "cert-chain", "root-cert")))
    except KeyError as error:
        raise ValueError(f"Secret {PLUGGED_IN} has no {error}") from error
    except ValueError as error:
        raise ValueError(f"Secret {PLUGGED_IN} cannot be used: {error}") from error
    if root.certificate.not_valid_after_utc <= now:
        raise ValueError(f"Secret {PLUGGED_IN} cannot be used: ca-cert.pem expired")
    return root


def wants_new_root(stored: JSON, root: Root, now: datetime) -> bool:
    """Whether somebody asked for it, or the root grows old."""
    asked = ROTATE in (stored["metadata"].get("annotations") or {})
    begins, ends = root.certificate.not_valid_before_utc, root.certificate.not_valid_after_utc
    return asked or now >= ends - (ends - begins) * _AGEING


def in_force_data(succession: Succession) -> dict[str, bytes]:
    """What `read_in_force` reads."""
    state = {
        "since": succession.since.isoformat(),
        "longestLife": succession.longest_life.isoformat() if succession.longest_life else None,
        "retired": [
            {
                "keyId": one.key_id,
                "roots": join(one.roots),
                "since": one.since.isoformat(),
                "until": one.until.isoformat(),
            }
            for one in succession.retired
        ],
    }
    coming = _parts("successor", succession.successor) if succession.successor else {}
    return {**_parts("signing", succession.signing), **coming, "state.json": json.dumps(state).encode()}


def _parts(role: str, root: Root) -> dict[str, bytes]:
    certificate, key = root.to_pem()
    return {
        f"{role}-cert.pem": certificate,
        f"{role}-key.pem": key,
        f"{role}-chain.pem": root.chain.encode(),
        f"{role}-roots.pem": join(root.trusted).encode(),
    }


def read_in_force(stored: JSON) -> Succession:
    """Raises ValueError for what nobody but a hand can have written."""
    data = _decoded(stored)
    try:
        state: dict[str, Any] = json.loads(data["state.json"])
        return Succession(
            signing=_root("signing", data),
            since=datetime.fromisoformat(state["since"]),
            successor=_root("successor", data) if "successor-cert.pem" in data else None,
            retired=tuple(_retired(one) for one in state["retired"]),
            longest_life=datetime.fromisoformat(state["longestLife"]) if state["longestLife"] else None,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"Secret {IN_FORCE} cannot be read ({error}): it is made anew") from error


def _root(role: str, data: Mapping[str, bytes]) -> Root:
    bare = Root.from_pem(data[f"{role}-cert.pem"], data[f"{role}-key.pem"])
    roots = unique(x509.load_pem_x509_certificates(data[f"{role}-roots.pem"]))
    return Root(bare.certificate, bare.key, data[f"{role}-chain.pem"].decode(), roots)


def _retired(one: Mapping[str, str]) -> Retired:
    roots = unique(x509.load_pem_x509_certificates(one["roots"].encode()))
    return Retired(one["keyId"], roots, datetime.fromisoformat(one["since"]), datetime.fromisoformat(one["until"]))


def _decoded(stored: JSON) -> dict[str, bytes]:
    return {key: base64.b64decode(value) for key, value in (stored.get("data") or {}).items()}
