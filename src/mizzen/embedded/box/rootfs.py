"""A container's root: a tmpfs with the system bound in read-only, a few files of its own, and what the Pod mounts.

Runs in the forked child, in a mount namespace of its own. It ends in pivot_root, which works without privileges on the
machine (an overlay over / does not).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from mizzen.embedded.box import kernel
from mizzen.embedded.box.messages import Mount
from mizzen.embedded.box.subpath import open_beneath
from mizzen.embedded.images import SYSTEM_FOLDERS

_ETC = [
    "alternatives",
    "ca-certificates",
    "ssl",
    "pki",
    "crypto-policies",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "timezone",
    "mime.types",
    "protocols",
    "services",
    "terminfo",
    "os-release",
    "debian_version",
    "java-17-openjdk",
    "fonts",
    "python3",
    "python3.11",
    "inputrc",
    "bash.bashrc",
]
_FOLDERS = [
    "dev",
    "etc",
    "home",
    "mnt",
    "media",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "var",
    "var/cache",
    "var/lib",
    "var/lock",
    "var/log",
    "var/run",
    "var/spool",
    "var/tmp",
]
_DEVICES = ("null", "zero", "full", "random", "urandom")
_FILES = {
    "etc/passwd": (
        "root:x:0:0:root:/root:/bin/sh\n"
        "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n"
        "istio-proxy:x:1337:1337:istio-proxy:/home/istio-proxy:/bin/sh\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    ),
    "etc/group": "root:x:0:\ndaemon:x:1:\ntty:x:5:\nistio-proxy:x:1337:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n",
}


def python_folders() -> list[Path]:
    """The folders this interpreter runs from: its prefixes and what is on sys.path, an editable checkout included."""
    candidates = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]
    folders = [Path(entry).resolve() for entry in candidates if entry.startswith("/") and Path(entry).is_dir()]
    return outermost(folder for folder in folders if folder.parts[1:2] and folder.parts[1] not in SYSTEM_FOLDERS)


def outermost(folders: Iterable[Path]) -> list[Path]:
    """`folders` without those that lie in another of them."""
    kept: list[Path] = []
    for folder in sorted(set(folders), key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(other) for other in kept):
            kept.append(folder)
    return kept


_ROOT_FLAGS = kernel.MS_NOSUID | kernel.MS_NODEV
"""Devices are those that are bound in, and no container makes more."""


def enter(stage: Path, shared: Sequence[Path], mounts: Sequence[Mount], *, read_only: bool) -> None:
    """Build the root at `stage` (any folder) and make it this process's root. Raises OSError naming what failed."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("tmpfs", stage, "tmpfs", _ROOT_FLAGS, "mode=755,size=256m")
    _lay_out(stage)
    _bind_system(stage)
    for folder in shared:
        _bind(folder, stage, str(folder), read_only=True)
    _devices(stage)
    kernel.mount("proc", stage / "proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
    ordered = sorted(mounts, key=lambda mount: mount.target.count("/"))
    for mount in ordered:
        _mount(replace(mount, read_only=False), stage)
        for nested in ordered:
            if nested.target.startswith(mount.target.rstrip("/") + "/"):
                _mount_point(stage, nested.target, folder=_is_folder(nested))
        if mount.read_only:  # only now, for nobody could make the places of those that are mounted in it
            kernel.make_read_only(_inside(stage, mount.target))
    kernel.pivot_root(stage)
    if read_only:
        _remount_root_read_only()


def _is_folder(mount: Mount) -> bool:
    return not mount.source or Path(mount.source, mount.sub_path).is_dir()


def _lay_out(stage: Path) -> None:
    for folder in _FOLDERS:
        (stage / folder).mkdir(mode=0o755, exist_ok=True)
    for folder in ("tmp", "var/tmp", "var/lock"):
        (stage / folder).chmod(0o1777)
    (stage / "run" / "lock").symlink_to("/var/lock")
    for name, content in _FILES.items():
        (stage / name).write_text(content)


def _bind_system(stage: Path) -> None:
    """Folders by a bind, the merged-/usr links (/bin → usr/bin) as the links they are."""
    for name in SYSTEM_FOLDERS:
        source = Path("/") / name
        if source.is_symlink():
            (stage / name).symlink_to(source.readlink())
        elif source.is_dir():
            _bind(source, stage, f"/{name}", read_only=True)
    for name in _ETC:
        source = Path("/etc") / name
        if source.exists():
            _bind(source.resolve(), stage, f"/etc/{name}", read_only=True)


def _devices(stage: Path) -> None:
    dev = stage / "dev"
    for name in (*_DEVICES, "tty"):
        if Path("/dev", name).exists():
            kernel.bind(
                Path("/dev", name),
                _mount_point(stage, f"/dev/{name}", folder=False),
                read_only=False,
                devices=True,
            )
    for folder in ("pts", "shm"):
        (dev / folder).mkdir()
    options = kernel.MS_NOSUID | kernel.MS_NOEXEC
    kernel.mount("devpts", dev / "pts", "devpts", options, "newinstance,ptmxmode=0666,mode=620")
    kernel.mount("shm", dev / "shm", "tmpfs", options | kernel.MS_NODEV, "mode=1777,size=64m")
    links = {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
    for name, target in links.items():
        (dev / name).symlink_to(target)


def _mount(mount: Mount, stage: Path) -> None:
    if mount.sub_path:
        reached = open_beneath(Path(mount.source), mount.sub_path)
        try:
            _bind(Path(f"/proc/self/fd/{reached}"), stage, mount.target, read_only=mount.read_only)
        finally:
            os.close(reached)
        return
    if mount.source:
        _bind(Path(mount.source), stage, mount.target, read_only=mount.read_only)
        return
    target = _mount_point(stage, mount.target, folder=True)
    size = f",size={mount.size}" if mount.size else ""
    kernel.mount("tmpfs", target, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=1777{size}")


def _bind(source: Path, stage: Path, target: str, *, read_only: bool) -> None:
    kernel.bind(source, _mount_point(stage, target, folder=source.is_dir()), read_only=read_only)


def _mount_point(stage: Path, target: str, *, folder: bool) -> Path:
    """The folder or empty file to mount on, made where it is missing. Links are followed within the new root."""
    place = _inside(stage, target)
    if place.exists():
        return place
    try:
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        place.mkdir(mode=0o755) if folder else place.touch(mode=0o644)
    except OSError as error:
        raise OSError(error.errno, f"cannot make the mount point {target}: {error.strerror}") from error
    return place


def _inside(stage: Path, target: str) -> Path:
    """`target` below `stage`, with links resolved as a process whose root is `stage` would."""
    place = stage
    for part in os.path.normpath(target).strip("/").split("/"):
        place = place / part
        if place.is_symlink():
            link = place.readlink()
            relative = Path("/", place.parent.relative_to(stage))
            place = _inside(stage, os.path.normpath(os.path.join(relative, link)))  # noqa: PTH118 - lexical on purpose
    return place


def _remount_root_read_only() -> None:
    """Only the tmpfs itself: volumes mounted on it stay writable."""
    kernel.mount("none", "/", "", kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY | _ROOT_FLAGS)
