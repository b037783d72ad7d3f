"""Volumes as folders below `pods/UID/volumes`: written in one step, so that a reader sees the old or the new content.

Layout as a kubelet's: `..2026_…` holds the files, `..data` points to it, each visible name points into `..data`.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mizzen.embedded.box import kernel
from mizzen.embedded.node import quantity
from mizzen.embedded.node.fields import Unresolved
from mizzen.embedded.node.payload import File, is_payload
from mizzen.kube.api import JSON

DATA = "..data"
_GROUP_READS = 0o440
"""Files that are written here are the Pod's to read: its fsGroup may do so whatever their mode."""


@dataclass(frozen=True, slots=True)
class VolumeFolders:
    """Where one Pod's volumes are. `host_paths`: the folders of this machine that Pods may mount."""

    pod: Path
    claims: Path
    namespace: str
    host_paths: Sequence[Path] = ()
    bound: dict[str, str] = field(default_factory=dict)
    """Name of a claim → its uid, as far as the Pod's claims are known."""

    def folder(self, name: str) -> Path:
        return self.pod / "volumes" / name

    def source(self, volume: JSON) -> Path:
        """The folder (or file) of this machine behind a volume. Raises Unresolved for what is not offered."""
        if "emptyDir" in volume or is_payload(volume):
            return self.folder(volume["name"])
        if claim := volume.get("persistentVolumeClaim"):
            return self._claimed(str(claim["claimName"]))
        if path := (volume.get("hostPath") or {}).get("path"):
            return self._host_path(Path(path))
        kind = next((key for key in volume if key != "name"), "nothing")
        raise Unresolved(f"volume {volume['name']!r}: {kind} is not supported by the embedded cluster")

    def _claimed(self, name: str) -> Path:
        """A later claim of the same name has another folder."""
        if name not in self.bound:
            raise Unresolved(f'persistentvolumeclaim "{name}" not found')
        return self.claims / self.namespace / f"{name}_{self.bound[name]}"

    def _host_path(self, path: Path) -> Path:
        resolved = path.resolve()
        if any(resolved.is_relative_to(allowed) for allowed in self.host_paths):
            return resolved
        raise Unresolved(
            f"hostPath {path} is refused: Pods of the embedded cluster see no folder of this machine unless "
            "MIZZEN_HOST_PATHS names it when the cluster starts; an emptyDir or a PersistentVolumeClaim needs no leave"
        )

    def make(self, volume: JSON, group: int | None) -> None:
        """Make the folder of an emptyDir or claim. Payloads are written by `write`. Raises Unresolved, OSError."""
        folder = self.source(volume)
        if "hostPath" in volume:
            if not folder.exists():
                raise Unresolved(f"hostPath {folder} does not exist")
            return
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if is_payload(volume):
            return
        empty = volume.get("emptyDir") or {}
        if empty.get("medium") == "Memory" and not folder.is_mount():
            kernel.mount("tmpfs", folder, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, _tmpfs_options(empty))
        folder.chmod(0o777 if group is None else 0o2777)
        if group is not None:
            os.chown(folder, -1, group)

    def remove(self) -> None:
        """Everything of the Pod; claims stay. Raises OSError."""
        root = self.pod / "volumes"
        for folder in root.iterdir() if root.is_dir() else ():
            if folder.is_mount():
                kernel.unmount(folder)
        if self.pod.is_dir():
            shutil.rmtree(self.pod)


def _tmpfs_options(empty: JSON) -> str:
    limit = empty.get("sizeLimit")
    return "mode=777" + (f",size={int(quantity.parse(limit))}" if limit else "")


def write(folder: Path, files: Mapping[str, File], group: int | None) -> bool:
    """Make the folder hold exactly `files`, in one step. False if it does already. Raises OSError, Unresolved."""
    for path in files:
        if path.startswith("/") or ".." in Path(path).parts:
            raise Unresolved(f"path {path!r} leads out of the volume")
    if current(folder) == {path: file.content for path, file in files.items()}:
        return False
    fresh = folder / f"..{secrets.token_hex(8)}"
    for path, file in files.items():
        _write_file(fresh / path, file, group)
    fresh.mkdir(exist_ok=True)
    _switch(folder, fresh)
    _link(folder, {Path(path).parts[0] for path in files})
    return True


def current(folder: Path) -> dict[str, bytes] | None:
    """What the folder holds now; None before the first write."""
    data = folder / DATA
    if not data.is_symlink():
        return None
    return {str(path.relative_to(data)): path.read_bytes() for path in data.rglob("*") if path.is_file()}


def _write_file(path: Path, file: File, group: int | None) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.write_bytes(file.content)
    if group is not None:
        os.chown(path, -1, group)
    path.chmod(file.mode | (0 if group is None else _GROUP_READS))


def _switch(folder: Path, fresh: Path) -> None:
    data = folder / DATA
    previous = folder / data.readlink() if data.is_symlink() else None
    pending = folder / "..data_tmp"
    pending.unlink(missing_ok=True)
    pending.symlink_to(fresh.name)
    pending.rename(data)
    if previous and previous.is_dir():
        shutil.rmtree(previous)


def _link(folder: Path, names: set[str]) -> None:
    visible = {entry.name for entry in folder.iterdir() if entry.is_symlink() and not entry.name.startswith("..")}
    for name in visible - names:
        (folder / name).unlink()
    for name in names - visible:
        (folder / name).symlink_to(f"{DATA}/{name}")
