"""The Pod as a whole on this machine: its volumes, its files in /etc, its namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from mizzen.embedded.node import payload, volumes
from mizzen.embedded.node.claims import CLAIMS
from mizzen.embedded.node.container import PodFiles, hosts_file, kernel_hostname, resolv_conf
from mizzen.embedded.node.fields import PodAddresses, Unresolved
from mizzen.embedded.node.init_client import InitError
from mizzen.embedded.node.parts import Parts
from mizzen.embedded.node.starting import NotNow
from mizzen.kube.api import JSON, ApiError, NotFound

log = logging.getLogger(__name__)

_RETRY = 5.0
SAFE_SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
"""https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls"""
_REMOVAL_LIMIT = 30.0


class PodSandbox:
    def __init__(self, parts: Parts, pod: JSON) -> None:
        self._parts = parts
        self._pod = pod
        self.gone = asyncio.Event()
        """Set by the node when init says that the last process has been reaped."""
        self.folder = parts.paths.pods / pod["metadata"]["uid"]
        self.volumes = volumes.VolumeFolders(
            self.folder, parts.paths.claims, pod["metadata"]["namespace"], parts.host_paths
        )
        self._addresses: tuple[str, ...] = ()
        self.pid = 0
        """Of the process that holds the Pod's namespaces."""
        self._timer: asyncio.TimerHandle | None = None
        self._refreshing = asyncio.Lock()

    @property
    def addresses(self) -> PodAddresses:
        return PodAddresses(self._addresses, self._parts.host_ips)

    @property
    def files(self) -> PodFiles:
        etc = self.folder / "etc"
        return PodFiles(str(etc / "hosts"), str(etc / "resolv.conf"), str(etc / "hostname"))

    def changed(self, pod: JSON) -> None:
        self._pod = pod
        self._parts.policies.changed(pod)

    async def create(self) -> tuple[str, ...]:
        """Volumes first, then the namespaces. The Pod's addresses. Raises NotNow, ApiError, OSError."""
        self._check_namespaces()
        for volume in self._volumes():
            if claim := volume.get("persistentVolumeClaim"):
                await self._claim(claim["claimName"], fresh=True)
            try:
                self.volumes.make(volume, self._group())
            except Unresolved as error:
                raise NotNow("FailedMount", str(error)) from error
        await self._write_payloads()
        metadata = self._pod["metadata"]
        meta = {"namespace": metadata["namespace"], "name": metadata["name"]}
        self.gone.clear()
        try:
            made = await self._parts.init.create_sandbox(
                metadata["uid"], kernel_hostname(self._pod), self._sysctls(), meta
            )
        except InitError as error:
            raise NotNow("FailedCreatePodSandBox", error.message) from error
        self._addresses, self.pid = made.addresses, made.pid
        self._write_etc()
        await self._parts.policies.admit(self._pod, made.addresses)
        return made.addresses

    def _check_namespaces(self) -> None:
        """Every Pod has namespaces of its own here: one that must not is refused, not given others than it asks for."""
        for name in ("hostNetwork", "hostPID", "hostIPC"):
            if self._pod["spec"].get(name):
                why = f"{name} is refused: Pods of the embedded cluster have namespaces of their own, and no others"
                raise NotNow("FailedCreatePodSandBox", why)

    def _sysctls(self) -> dict[str, str]:
        """Those that a kubelet takes from anybody: they end at the Pod's namespaces. Raises NotNow."""
        wanted = (self._pod["spec"].get("securityContext") or {}).get("sysctls") or ()
        for each in wanted:
            if each["name"] not in SAFE_SYSCTLS:
                raise NotNow("SysctlForbidden", f"forbidden sysctl: {each['name']!r} not allowlisted")
        return {each["name"]: each["value"] for each in wanted}

    async def _claim(self, name: str, *, fresh: bool = False) -> None:
        """A claim is bound to a folder of this machine as soon as a Pod wants it; one that goes takes no new Pods
        (`fresh`). Raises NotNow, ApiError."""
        namespace = self._pod["metadata"]["namespace"]
        try:
            claim = await self._parts.api.get(CLAIMS, name, namespace)
        except NotFound as error:
            raise NotNow("FailedScheduling", f'persistentvolumeclaim "{name}" not found') from error
        if fresh and "deletionTimestamp" in claim["metadata"]:
            raise NotNow("FailedScheduling", f'persistentvolumeclaim "{name}" is being deleted')
        self.volumes.bound[name] = claim["metadata"]["uid"]
        if (claim.get("status") or {}).get("phase") != "Bound":
            requested = (claim["spec"].get("resources") or {}).get("requests") or {}
            modes = claim["spec"].get("accessModes") or ["ReadWriteOnce"]
            bound = {"phase": "Bound", "accessModes": modes, "capacity": requested}
            await self._parts.api.patch(CLAIMS, name, {"status": bound}, namespace, subresource="status")

    async def resume(self, addresses: tuple[str, ...], pid: int) -> None:
        """Go on with a sandbox that is there."""
        self._addresses, self.pid = addresses, pid
        self._parts.policies.known(self._pod, addresses)
        for volume in self._volumes():
            if claim := volume.get("persistentVolumeClaim"):
                with contextlib.suppress(NotNow):  # deleted since: a container that starts again will say so
                    await self._claim(claim["claimName"])
        await self.refresh()

    async def remove(self) -> None:
        """End every process of the Pod. Raises NotNow when that takes too long."""
        self.close()
        with contextlib.suppress(InitError):  # NotFound: it is gone already
            await self._parts.init.remove_sandbox(self._pod["metadata"]["uid"])
            try:
                async with asyncio.timeout(_REMOVAL_LIMIT):
                    await self.gone.wait()
            except TimeoutError as error:
                raise NotNow("FailedKillPod", "the Pod's processes do not end, even after SIGKILL") from error
        self.lost()

    def lost(self) -> None:
        """Its namespaces are no more, and its address is free for another Pod."""
        self._addresses = ()
        self._parts.policies.left(self._pod["metadata"]["uid"])

    def clean_up(self) -> None:
        """Remove the Pod's folder, logs included. Raises OSError."""
        uid = self._pod["metadata"]["uid"]
        self._parts.tokens.forget(uid)
        if self._parts.cgroups:
            self._parts.cgroups.remove(uid)
        self.volumes.remove()

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()

    def sources(self) -> dict[str, str]:
        """Volume name → path on this machine. Raises Unresolved."""
        return {volume["name"]: str(self.volumes.source(volume)) for volume in self._volumes()}

    async def refresh(self) -> None:
        """Write payloads again where their sources changed; try later if that fails."""
        async with self._refreshing:
            try:
                await self._write_payloads()
            except (NotNow, ApiError, OSError) as error:
                log.warning("volumes of Pod %s stay as they are: %s", self._pod["metadata"]["name"], error)
                self._refresh_at(time.time() + _RETRY)

    def _volumes(self) -> list[JSON]:
        """An `ephemeral` volume is a claim that a controller makes for this Pod."""
        return [self._claiming(volume) for volume in self._pod["spec"].get("volumes") or ()]

    def _claiming(self, volume: JSON) -> JSON:
        if "ephemeral" not in volume:
            return volume
        name = f"{self._pod['metadata']['name']}-{volume['name']}"
        return {"name": volume["name"], "persistentVolumeClaim": {"claimName": name}}

    def _group(self) -> int | None:
        group: int | None = (self._pod["spec"].get("securityContext") or {}).get("fsGroup")
        return group if not self._parts.single_user else None

    async def _write_payloads(self) -> None:
        wanted = [volume for volume in self._volumes() if payload.is_payload(volume)]
        if not wanted:
            return
        namespace = self._pod["metadata"]["namespace"]
        source = await self._parts.sources(namespace, payload.references(self._pod))
        requests = payload.token_requests(wanted)
        tokens = dict(zip(requests, [await self._parts.tokens.get(self._pod, each) for each in requests], strict=True))
        of = payload.Ingredients(self.addresses, self._parts.capacity, source, lambda request: tokens[request].text)
        for volume in wanted:
            try:
                volumes.write(self.volumes.folder(volume["name"]), payload.files(self._pod, volume, of), self._group())
            except Unresolved as error:
                raise NotNow(
                    "FailedMount", f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                ) from error
        if tokens:
            self._refresh_at(min(token.renew_at for token in tokens.values()))

    def _refresh_at(self, at: float) -> None:
        self.close()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(at - time.time(), 0.1), lambda: loop.create_task(self.refresh()))

    def _write_etc(self) -> None:
        etc = self.folder / "etc"
        etc.mkdir(mode=0o755, parents=True, exist_ok=True)
        content = {
            "hosts": hosts_file(self._pod, self._addresses),
            "resolv.conf": resolv_conf(self._pod, self._parts.resolver),
            "hostname": kernel_hostname(self._pod) + "\n",
        }
        for name, text in content.items():
            (etc / name).write_text(text)
            (etc / name).chmod(0o644)
