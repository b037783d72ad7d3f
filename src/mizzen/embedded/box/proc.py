"""Who a process is: a pid alone is reused, a pid with its start time is not."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: clock ticks since boot. Raises ProcessLookupError if there is no such process."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    return int(_fields(content)[19])


def is_running(pid: int, started: int) -> bool:
    """Whether the process `pid` that began at `started` runs; one that only waits to be reaped does not."""
    try:
        fields = _fields(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(fields[19]) == started and fields[0] not in "ZX"


def _fields(stat: str) -> list[str]:
    """From the third on: the second, the name in parentheses, may itself hold blanks and parentheses."""
    return stat.rpartition(")")[2].split()


def boot_id() -> str:
    """Different after every boot, so that a pid and start time of an earlier boot name nobody."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def mount_namespace(pid: int) -> int:
    """The inode that names the mount namespace of `pid`; 0 if it has ended already."""
    try:
        return Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    except OSError:
        return 0


def kill_all_in(descriptor: int) -> None:
    """SIGKILL every process in the mount namespace: the children that a container's main process left behind."""
    namespace = os.fstat(descriptor).st_ino
    if namespace == mount_namespace(os.getpid()):
        return
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and mount_namespace(int(entry.name)) == namespace:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(entry.name), signal.SIGKILL)
