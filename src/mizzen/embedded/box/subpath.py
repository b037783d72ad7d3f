"""A place within a volume that a Pod names and whose content Pods write: no link in it may lead out of the volume.

As a kubelet does it: resolve first, then walk down without following links, and use what was reached and not its name,
which may mean something else by then. https://kubernetes.io/blog/2018/04/04/fixing-subpath-volume-vulnerability/
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

_AT = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(volume: Path, below: str, *, make: bool = False) -> int:
    """A descriptor of `below` in `volume`, for use as /proc/self/fd/N. `make`: what is missing becomes a folder with
    the volume's own rights. Raises OSError."""
    try:
        root = volume.resolve()
        place = (root / below).resolve()
    except RuntimeError as error:  # a link that leads to itself
        raise OSError(errno.ELOOP, str(error)) from error
    if not place.is_relative_to(root):
        raise OSError(errno.EXDEV, f"subPath {below!r} leads out of its volume")
    mode = stat.S_IMODE(root.stat().st_mode) if make else None
    reached = os.open(root, _AT)
    for part in place.relative_to(root).parts:
        try:
            inner = _step(reached, part, mode)
        finally:
            os.close(reached)
        reached = inner
    return reached


def _step(folder: int, part: str, mode: int | None) -> int:
    if mode is not None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, dir_fd=folder)
            _set_mode(folder, part, mode)
    inner = os.open(part, _AT, dir_fd=folder)
    if stat.S_ISLNK(os.fstat(inner).st_mode):
        os.close(inner)
        raise OSError(errno.ELOOP, f"{part} has become a link")
    return inner


def _set_mode(folder: int, part: str, mode: int) -> None:
    made = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.fchmod(made, mode)
    finally:
        os.close(made)
