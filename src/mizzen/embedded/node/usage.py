"""What containers use: processor time and memory of every process in a container's mount namespace."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from mizzen.embedded.box import proc
from mizzen.embedded.node.live import Live
from mizzen.kube.api import JSON

_TICK = 10**9 // os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def pod_usage(pod: JSON, live: Mapping[str, Live]) -> JSON:
    """One entry of `GET /stats`."""
    metadata = pod["metadata"]
    containers = [container_usage(name, each.running.pid) for name, each in live.items()]
    return {"namespace": metadata["namespace"], "name": metadata["name"], "containers": containers}


def container_usage(name: str, pid: int) -> JSON:
    """Processor time since the start of the processes that run now, and their resident memory without shared pages."""
    namespace = proc.mount_namespace(pid)
    used = [usage(int(entry.name)) for entry in Path("/proc").iterdir() if _belongs(entry, namespace)]
    return {
        "name": name,
        "cpu_nanoseconds": sum(cpu for cpu, _ in used),
        "memory_bytes": sum(memory for _, memory in used),
    }


def _belongs(entry: Path, namespace: int) -> bool:
    return namespace != 0 and entry.name.isdigit() and proc.mount_namespace(int(entry.name)) == namespace


def usage(pid: int) -> tuple[int, int]:
    """Nanoseconds and bytes of one process; zeros once it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        resident, shared = Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    except OSError:
        return 0, 0
    return (int(fields[11]) + int(fields[12])) * _TICK, (int(resident) - int(shared)) * _PAGE
