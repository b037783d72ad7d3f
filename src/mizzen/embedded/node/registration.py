"""The Node object and its heartbeat. https://kubernetes.io/docs/concepts/architecture/nodes/"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mizzen import __version__
from mizzen.embedded.box.addresses import PODS, PODS_IPV6
from mizzen.embedded.node.status import timestamp
from mizzen.embedded.placement import NODE_NAME
from mizzen.kube.api import JSON, WELL_KNOWN, Api, ApiError, NotFound

log = logging.getLogger(__name__)


HEARTBEAT = 10.0
MOST_PODS = 250
_LEASES = "kube-node-lease"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def node_object(host_ips: Sequence[str]) -> JSON:
    """What is registered. Zone and region let locality rules have something to match."""
    labels = {
        "kubernetes.io/hostname": NODE_NAME,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture(),
        "node-role.kubernetes.io/control-plane": "",
        "topology.kubernetes.io/region": "local",
        "topology.kubernetes.io/zone": "local",
    }
    annotations = {"mizzen.dev/host-ip": host_ips[0]}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": NODE_NAME, "labels": labels, "annotations": annotations},
        "spec": {**pod_ranges(host_ips), "providerID": f"mizzen://{NODE_NAME}"},
    }


def pod_ranges(host_ips: Sequence[str]) -> JSON:
    """Where the addresses of Pods come from, in the families that the node itself has."""
    ranges = [str(PODS_IPV6 if ":" in address else PODS) for address in host_ips]
    return {"podCIDR": ranges[0], "podCIDRs": ranges}


def architecture() -> str:
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def memory_kib() -> int:
    """All memory of the machine, in KiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    raise OSError("no MemTotal in /proc/meminfo")


def node_status(before: JSON, host_ips: Sequence[str], life: str, now: float) -> JSON:
    """The status to write; conditions keep their transition times while they hold. `life` is the box's."""
    storage = os.statvfs("/")
    amounts = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{memory_kib()}Ki",
        "ephemeral-storage": f"{storage.f_blocks * storage.f_frsize // 1024}Ki",
        "pods": str(MOST_PODS),
    }
    return {
        "addresses": [
            *({"type": "InternalIP", "address": address} for address in host_ips),
            {"type": "Hostname", "address": NODE_NAME},
        ],
        "capacity": amounts,
        "allocatable": amounts,
        "conditions": _conditions(before, now),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": _node_info(life),
    }


def _conditions(before: JSON, now: float) -> list[JSON]:
    wanted = [
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "the node runs Pods"),
    ]
    old = {each["type"]: each for each in before.get("conditions") or ()}
    return [
        {
            "type": kind,
            "status": status,
            "reason": reason,
            "message": message,
            "lastHeartbeatTime": timestamp(now),
            "lastTransitionTime": _since(old.get(kind), status) or timestamp(now),
        }
        for kind, status, reason, message in wanted
    ]


def _since(condition: JSON | None, status: str) -> str | None:
    return condition.get("lastTransitionTime") if condition and condition.get("status") == status else None


def _node_info(life: str) -> JSON:
    return {
        "architecture": architecture(),
        "bootID": life,
        "containerRuntimeVersion": f"mizzen://{__version__}",
        "kernelVersion": platform.release(),
        "kubeProxyVersion": "v1.32.0",
        "kubeletVersion": "v1.32.0",
        "machineID": _machine_id(),
        "operatingSystem": "linux",
        "osImage": _os_name(),
        "systemUUID": _machine_id(),
    }


def _machine_id() -> str:
    path = Path("/etc/machine-id")
    return path.read_text().strip() if path.exists() else ""


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


async def register(api: Api, host_ips: Sequence[str], life: str) -> None:
    """Make the Node object, or bring it up to date: Ready from now on. Raises ApiError."""
    wanted = node_object(host_ips)
    try:
        found = await api.get(WELL_KNOWN.nodes, NODE_NAME)
        await api.patch(WELL_KNOWN.nodes, NODE_NAME, {"metadata": wanted["metadata"], "spec": pod_ranges(host_ips)})
    except NotFound:
        found = await api.create(WELL_KNOWN.nodes, wanted)
    await _write_status(api, found, host_ips, life)


async def _write_status(api: Api, node: JSON, host_ips: Sequence[str], life: str) -> None:
    status = node_status(node.get("status") or {}, host_ips, life, time.time())
    await api.patch(WELL_KNOWN.nodes, NODE_NAME, {"status": status}, subresource="status")


async def heartbeat(api: Api) -> None:
    """Renew the lease until cancelled. A miss is logged, and made up for at the next beat."""
    while True:
        try:
            await _renew(api)
        except ApiError as error:
            log.warning("cannot renew the lease: %s", error.message)
        await asyncio.sleep(HEARTBEAT)


async def stay_ready(api: Api, host_ips: Sequence[str], life: str) -> None:
    """Say that we are here where that was doubted, until cancelled: a machine that stood still was silent for long."""
    while True:
        await asyncio.sleep(HEARTBEAT)
        try:
            await _tell_again(api, host_ips, life)
        except ApiError as error:
            log.warning("cannot tell the node's state: %s", error.message)


async def _tell_again(api: Api, host_ips: Sequence[str], life: str) -> None:
    node = await api.get(WELL_KNOWN.nodes, NODE_NAME)
    told = {each["type"]: each["status"] for each in (node.get("status") or {}).get("conditions") or ()}
    if told.get("Ready") != "True":
        await _write_status(api, node, host_ips, life)


async def _renew(api: Api) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": NODE_NAME, "leaseDurationSeconds": 40, "renewTime": now}
    try:
        await api.patch(WELL_KNOWN.leases, NODE_NAME, {"spec": spec}, _LEASES)
    except NotFound:
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NODE_NAME}, "spec": spec}
        await api.create(WELL_KNOWN.leases, lease, _LEASES)
