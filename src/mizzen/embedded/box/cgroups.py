"""Limits on memory and processor time, by cgroup v2 or v1, whichever this machine has; none where they are read-only.

One folder per cluster holds one per Pod, which holds one per run of a container. Empty folders are all that can outlive
a box that was killed; the next start or stop of the cluster removes them. cgroups(7).
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
PERIOD = 100_000
"""Microseconds in which a processor quota counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes and processors; None means none."""

    memory: int | None = None
    cpu: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """What a container's run needs to know: where to enter, and which file counts kills for want of memory."""

    entrances: tuple[str, ...]
    oom_file: str


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """The writable controllers: name → folder of this cluster. In v2 there is one, called "" ."""

    folders: Mapping[str, Path]

    def make(self, path: str, limits: Limits) -> Group:
        """The group at `path` below the cluster's, with its limits. Raises OSError."""
        made = {name: folder / path for name, folder in self.folders.items()}
        for name, group in made.items():
            _make_path(self.folders[name], group, delegate=name == "")
            for file, value in _settings(name, limits):
                (group / file).write_text(value)
        memory = made.get("", made.get("memory"))
        counter = "memory.events" if "" in made else "memory.oom_control"
        entrances = tuple(str(group / "cgroup.procs") for group in made.values())
        return Group(entrances, str(memory / counter) if memory else "")

    def remove(self, path: str = "") -> None:
        """The group and all below it, as far as they are empty of processes."""
        for folder in self.folders.values():
            _remove_tree(folder / path)


def _settings(controller: str, limits: Limits) -> Iterator[tuple[str, str]]:
    if limits.memory is not None and controller in ("", "memory"):
        yield ("memory.limit_in_bytes" if controller else "memory.max"), str(limits.memory)
        if not controller:
            # All of the container, as on a kubelet: what is left after one of its processes was killed rarely works.
            yield "memory.oom.group", "1"
    if limits.cpu is not None and controller in ("", "cpu"):
        quota = max(int(limits.cpu * PERIOD), 1000)
        if controller:
            yield "cpu.cfs_period_us", str(PERIOD)
            yield "cpu.cfs_quota_us", str(quota)
        else:
            yield "cpu.max", f"{quota} {PERIOD}"


def _make_path(top: Path, group: Path, *, delegate: bool) -> None:
    """Folder by folder; in v2 each must hand the controllers on to those below."""
    for folder in (*reversed(group.relative_to(top).parents), None):
        place = group if folder is None else top / folder
        place.mkdir(exist_ok=True)
        if delegate and folder is not None:
            (place / "cgroup.subtree_control").write_text("+cpu +memory")


def _remove_tree(folder: Path) -> None:
    if not folder.is_dir():
        return
    for below in folder.iterdir():
        if below.is_dir():
            _remove_tree(below)
    with contextlib.suppress(OSError):  # EBUSY: someone is still in there; the next removal takes it
        folder.rmdir()


def hierarchy(state: Path, mount: Path = MOUNT) -> Hierarchy | None:
    """The cluster's folders; None where limits cannot be set. Nothing is made by asking."""
    name = f"mizzen-{zlib.crc32(os.fsencode(state)):08x}"
    handed_on = mount / "cgroup.subtree_control"
    if handed_on.exists() and {"cpu", "memory"} <= set(handed_on.read_text().split()):
        places = {"": mount}
    else:
        places = {each: mount / each for each in ("memory", "cpu") if (mount / each / "cgroup.procs").exists()}
    if not places or not _writable(list(places.values())):
        return None
    return Hierarchy({controller: place / name for controller, place in places.items()})


def _writable(places: Sequence[Path]) -> bool:
    return all(os.access(place, os.W_OK) for place in places)
