"""Starting a container: image, environment, mounts, streams, process."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mizzen.embedded.box.cgroups import Limits
from mizzen.embedded.box.messages import Exit, Mount, Process
from mizzen.embedded.box.messages import Running as RunningProcess
from mizzen.embedded.box.subpath import open_beneath
from mizzen.embedded.images import Command, Image, program_folders
from mizzen.embedded.node import container as containers
from mizzen.embedded.node import payload
from mizzen.embedded.node.adoption import ended
from mizzen.embedded.node.environment import Surroundings, environment
from mizzen.embedded.node.facts import Ended, container_named
from mizzen.embedded.node.fields import Unresolved
from mizzen.embedded.node.init_client import InitError
from mizzen.embedded.node.live import Live
from mizzen.embedded.node.logfiles import LogFile, LogQuery, LogReader, present_lines
from mizzen.embedded.node.stdio import Stdio
from mizzen.kube.api import JSON, ApiError

if TYPE_CHECKING:
    from mizzen.embedded.node.pod import PodWorker

log = logging.getLogger(__name__)

_MESSAGE_LIMIT = 4096
_FALLBACK_LINES, _FALLBACK_LIMIT = 80, 2048
_CONFIG_RETRY = 1.0
_IMAGE_RETRY = 3.0


class NotNow(Exception):
    """It cannot be done at present; `reason` is what the container waits for, `wait` the seconds until the next try."""

    def __init__(self, reason: str, message: str, wait: float = _CONFIG_RETRY) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.wait = wait


class Starter:
    """The starts of one Pod's containers."""

    def __init__(self, worker: PodWorker) -> None:
        self._worker = worker
        self._parts = worker.parts
        self._complained: set[str] = set()

    async def start(self, name: str) -> Live:
        """Raises NotNow."""
        worker = self._worker
        container = container_named(worker.pod, name)
        assert container is not None
        image = self._image(container)
        try:
            process = await self._process(container, image)
        except Unresolved as error:
            worker.parts.recorder.warning(worker.pod, "Failed", f"Error: {error}", name)
            raise NotNow("CreateContainerConfigError", str(error)) from error
        except (ApiError, OSError) as error:
            raise NotNow("CreateContainerError", str(error)) from error
        live = await self._run(container, image, process)
        worker.parts.recorder.normal(worker.pod, "Created", f"Created container: {name}", name)
        worker.parts.recorder.normal(worker.pod, "Started", f"Started container {name}", name)
        return live

    def _image(self, container: JSON) -> Image:
        """What the container's image means here. Raises NotNow, with an event that says how to add it."""
        wanted = container.get("image") or ""
        try:
            image = self._parts.images.resolve(wanted)
        except ValueError as error:
            raise NotNow("ErrImagePull", str(error), _IMAGE_RETRY) from error
        if image:
            message = f'Container image "{wanted}" already present on machine'
            self._parts.recorder.normal(self._worker.pod, "Pulled", message, container["name"])
            self._complained.discard(container["name"])
            return image
        raise self._unknown_image(container["name"], wanted)

    def _unknown_image(self, name: str, image: str) -> NotNow:
        help = (
            f'no program of this machine is known for image "{image}"; say which: '
            f'mizzen image add "{image}" --command "python app.py" --workdir DIR'
        )
        recorder, pod = self._parts.recorder, self._worker.pod
        if name in self._complained:
            recorder.normal(pod, "BackOff", f'Back-off pulling image "{image}"', name)
            return NotNow("ImagePullBackOff", f'Back-off pulling image "{image}": {help}', _IMAGE_RETRY)
        self._complained.add(name)
        recorder.warning(pod, "Failed", f'Failed to pull image "{image}": {help}', name)
        return NotNow("ErrImagePull", help, _IMAGE_RETRY)

    async def _process(self, container: JSON, image: Image) -> Process:
        worker, sandbox = self._worker, self._worker.sandbox
        pod, name, known = worker.pod, container["name"], worker.known(container["name"])
        restarts = known.restarts + (1 if isinstance(known.state, Ended) or known.last else 0)
        source = await self._parts.sources(pod["metadata"]["namespace"], payload.references(pod))
        services = self._parts.services_of(pod["metadata"]["namespace"])
        env = environment(pod, container, Surroundings(sandbox.addresses, self._parts.capacity, source, services))
        sources = sandbox.sources()
        mounts = containers.mounts(pod, container, image, sources, env)
        self._make_sub_paths(mounts)
        if isinstance(image, Command):
            own = [Mount(source=str(each), target=str(each), read_only=True) for each in program_folders(image)]
            mounts = [*own, *mounts]
        etc = containers.etc_mounts(sandbox.files, container, str(self._termination_log(name)))
        meta: dict[str, Any] = {"container": name, "restarts": restarts, "image": container.get("image", "")}
        process = containers.process(
            pod,
            container,
            image,
            env,
            [*etc, *mounts],
            self._parts.machine,
            id=f"{worker.uid}/{name}/{restarts}",
            meta=meta,
        )
        process = msgspec.structs.replace(process, beside=self._target(container))
        process = self._limited(container, process, meta)
        self._tell_of_host_ports(container)
        # What a later `exec` needs, for a node that was started in between.
        meta["exec"] = msgspec.to_builtins(msgspec.structs.replace(process, mounts=[], argv=[], meta={}))
        return msgspec.structs.replace(process, meta=meta)

    def _target(self, container: JSON) -> str:
        """The process whose own ones `kubectl debug --target` wants to see. Raises Unresolved."""
        target = container.get("targetContainerName")
        if not target:
            return ""
        if target not in self._worker.live:
            raise Unresolved(f"target container {target!r} is not running")
        return self._worker.live[target].process.id

    def _limited(self, container: JSON, process: Process, meta: dict[str, Any]) -> Process:
        """The process in a cgroup of its own, or an event that its limits do not hold here."""
        wanted, cgroups = containers.limits(container), self._parts.cgroups
        why = "this machine lets the cluster write no cgroups"
        try:
            if cgroups:
                group = cgroups.make(process.id, wanted)
                meta["oom_file"] = group.oom_file
                return msgspec.structs.replace(process, cgroups=list(group.entrances))
        except OSError as error:
            why = str(error)
        if wanted != Limits():
            message = f"resource limits are not enforced: {why}"
            self._parts.recorder.warning(self._worker.pod, "LimitsNotEnforced", message, container["name"])
        return process

    def _tell_of_host_ports(self, container: JSON) -> None:
        for port in container.get("ports") or ():
            if number := port.get("hostPort"):
                message = f"hostPort {number} is not opened; a Service of type NodePort is called from the machine"
                self._parts.recorder.warning(self._worker.pod, "HostPortNotOpened", message, container["name"])

    @staticmethod
    def _make_sub_paths(mounts: Sequence[Mount]) -> None:
        """A subPath that does not exist becomes a folder, as on a kubelet. Raises OSError."""
        for mount in mounts:
            if mount.sub_path:
                os.close(open_beneath(Path(mount.source), mount.sub_path, make=True))

    def _termination_log(self, name: str) -> Path:
        path: Path = self._worker.sandbox.folder / "containers" / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_bytes(b"")
        path.chmod(0o666)
        return path

    async def _run(self, container: JSON, image: Image, process: Process) -> Live:
        name = container["name"]
        stdio = Stdio.create(tty=bool(container.get("tty")), stdin=bool(container.get("stdin")))
        process = msgspec.structs.replace(process, kept=list(stdio.near))
        exited = self._parts.exits.expect(process.id)
        try:
            running = await self._parts.init.run(process, (*stdio.far, *stdio.near.values()))
        except InitError as error:
            self._parts.exits.drop(process.id)
            stdio.close()
            self._parts.recorder.warning(self._worker.pod, "Failed", f"Error: {error.message}", name)
            raise NotNow("RunContainerError", error.message, wait=10.0) from error
        stdio.sent()
        return self._live(container, image, process, running, stdio, exited)

    async def adopt(self, running: RunningProcess) -> None:
        """Go on with a container that a node before us started."""
        worker, name = self._worker, str(running.meta["container"])
        container = container_named(worker.pod, name)
        if container is None:
            raise ValueError(f"Pod {worker.uid} has no container {name!r}")
        exited = self._parts.exits.expect(running.id)
        stdio = Stdio.adopted(running.kept, await self._parts.init.adopt(running.id))
        process = msgspec.convert(running.meta["exec"], type=Process)
        image = self._known_image(container)
        live = self._live(container, image, process, running, stdio, exited)
        worker.follow(name, live)

    def _known_image(self, container: JSON) -> Image | None:
        """For `exec` by name only: a container that runs goes on whatever has become of the table."""
        try:
            return self._parts.images.resolve(container.get("image") or "")
        except ValueError as error:
            log.warning("%s", error)
            return None

    def _live(
        self,
        container: JSON,
        image: Image | None,
        process: Process,
        running: RunningProcess,
        stdio: Stdio,
        exited: Any,
    ) -> Live:
        worker, name = self._worker, container["name"]
        return Live(
            parts=self._parts,
            pod=worker.pod,
            container=container,
            process=process,
            image=image,
            address=worker.facts.address,
            running=running,
            stdio=stdio,
            log=LogFile(self.log_path(name, int(running.meta["restarts"])), keep=bool(container.get("stdinOnce"))),
            exited=exited,
            report=lambda **told: worker.set(name, **told),
            unhealthy=worker.unhealthy(name),
        )

    def log_path(self, name: str, restarts: int) -> Path:
        folder: Path = self._worker.sandbox.folder
        return folder / "logs" / name / f"{restarts}.log"

    def ended(self, live: Live, exit: Exit) -> Ended:
        """The end of a run, with the message that the container left."""
        return ended(live.running, exit, self._message(live, exit))

    def _message(self, live: Live, exit: Exit) -> str:
        path = self._worker.sandbox.folder / "containers" / live.container["name"]
        text = _end_of(path, _MESSAGE_LIMIT).decode(errors="replace") if path.exists() else ""
        policy = live.container.get("terminationMessagePolicy")
        if text or exit.code == 0 or policy != "FallbackToLogsOnError":
            return text
        reader = LogReader(LogQuery())
        lines = b"".join(reader.text(line) for line in present_lines(live.log.path, _FALLBACK_LINES))
        return lines[-_FALLBACK_LIMIT:].decode(errors="replace")


def _end_of(path: Path, limit: int) -> bytes:
    """The last bytes of a file, which may be as long as a container likes."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, 2) - limit, 0))
        return file.read(limit)
