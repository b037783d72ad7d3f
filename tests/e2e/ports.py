"""Where anything listens in a cluster, and where what it says in plain text is right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .mesh import Mesh, numbers

ALWAYS_PLAIN = {15020, 15021, 15090}
"""Health, metrics and probes of every proxy: Istio's table of ports."""
ISTIOD_PLAIN = {8080, 15014}
"""Readiness, version and metrics."""


class Listening(NamedTuple):
    pod: str
    address: str
    port: int


def listening(mesh: Mesh) -> Iterator[Listening]:
    """Every TCP port that anything in any Pod listens on, whatever address it has chosen, and 15008."""
    outer = {numbers(pid)[1]: pid for pid in mesh.children() if len(numbers(pid)) > 1}
    for sandbox in mesh.inventory().sandboxes:
        for table in ("tcp", "tcp6"):
            rows = Path(f"/proc/{outer[sandbox.pid]}/net/{table}").read_text().splitlines()[1:]
            for row in rows:
                _, own, _, state, *_ = row.split()
                if state == "0A":
                    for address in sandbox.addresses:
                        yield Listening(sandbox.meta["name"], address, int(own.rpartition(":")[2], 16))


def listening_in_box(mesh: Mesh) -> Iterator[tuple[str, str, int]]:
    """Where the API server, the node and its neighbours listen, for Pods to reach: DNS on UDP too."""
    for row in Path(f"/proc/{mesh.box()}/net/tcp").read_text().splitlines()[1:]:
        _, own, _, state, *_ = row.split()
        address, port = own.split(":")
        told = ".".join(str(part) for part in reversed(bytes.fromhex(address)))
        if state == "0A":
            yield f"box {told} {int(port, 16)}", "10.244.0.1" if told == "0.0.0.0" else told, int(port, 16)
    yield "udp DNS", "10.96.0.10", 53


def is_ours(name: str, port: str) -> bool:
    """Not Envoy, which answers 503 where what it passes on is not taken."""
    return name.startswith(("istiod", "box", "udp")) or port in ("15020", "15021")


def plain_ports(name: str) -> set[int]:
    if name.startswith("istiod"):
        return ISTIOD_PLAIN
    if name == "intruder":
        return set()
    return ALWAYS_PLAIN | ({8080} if name.startswith("istio-ingressgateway") else set())
