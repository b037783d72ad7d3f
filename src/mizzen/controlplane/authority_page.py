"""What `mizzen ca` shows of the authority: roots and how far the workloads are. No key is in it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mizzen.ca.authority import fingerprint
from mizzen.ca.succession import Succession
from mizzen.controlplane.ledger import SHORT, Holding, PodKey, settled, trusting

JSON: TypeAlias = dict[str, Any]
_NAMED = 20
"""Pods that are waited for are named, but not all of a thousand."""


def page(succession: Succession, holdings: Mapping[PodKey, Holding], pods: Collection[PodKey], now: float) -> JSON:
    """`pods`: those with a proxy."""
    held = {pod: one for pod, one in holdings.items() if pod in pods and one.not_after > now}
    waiting = sorted(".".join(reversed(pod)) for pod in _waited_for(succession, holdings, pods, now))
    return {
        "phase": succession.phase,
        "since": succession.since.isoformat(timespec="seconds"),
        "roots": list(_roots(succession, held.values())),
        "proxies": len(pods),
        "waitsFor": len(waiting),
        "waitsForPods": waiting[:_NAMED],
    }


def _waited_for(
    succession: Succession, holdings: Mapping[PodKey, Holding], pods: Collection[PodKey], now: float
) -> list[PodKey]:
    done = settled(holdings, now)
    match succession.phase:
        case "spreading":
            return [pod for pod in pods if not trusting(done.get(pod), succession)]
        case "retiring":
            signs = succession.signing.key_id[:SHORT]
            return [pod for pod in pods if pod not in done or done[pod].key_id != signs]
        case _:
            return []


def _roots(succession: Succession, held: Collection[Holding]) -> Iterator[JSON]:
    """Every trusted root once, with what it is there for and how many workloads' certificates lead to it."""
    for root in succession.trusted:
        signers, role, until = _part(root, succession)
        yield {
            "role": role,
            "fingerprint": fingerprint(root),
            "subject": root.subject.rfc4514_string(),
            "key": _kind(root),
            "notAfter": root.not_valid_after_utc.isoformat(),
            "trustedUntil": until,
            "workloads": sum(one.key_id in signers for one in held),
        }


def _part(root: x509.Certificate, succession: Succession) -> tuple[set[str], str, str]:
    """Short ids of the keys that sign below a root, its role, and until when it is trusted where that ends."""
    retired = [one for one in succession.retired if root in one.roots]
    signers = {one.key_id[:SHORT] for one in retired}
    if root in succession.signing.anchors:
        return signers | {succession.signing.key_id[:SHORT]}, "signs", ""
    if succession.successor and root in succession.successor.anchors:
        return signers | {succession.successor.key_id[:SHORT]}, "next", ""
    if retired and root not in succession.signing.trusted:
        return signers, "retired", max(one.until for one in retired).isoformat(timespec="seconds")
    return signers, "trusted", ""


def _kind(root: x509.Certificate) -> str:
    key = root.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"EC {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__
