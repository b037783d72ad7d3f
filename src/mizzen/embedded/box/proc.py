"""Who a process is: a pid alone is reused, a pid with its start time is not."""

from __future__ import annotations

from pathlib import Path


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat: clock ticks since boot. Raises ProcessLookupError if there is no such process."""
    try:
        content = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise ProcessLookupError(f"there is no process {pid}") from error
    # The second field, the name in parentheses, may itself hold blanks and parentheses.
    return int(content.rpartition(")")[2].split()[19])


def boot_id() -> str:
    """Different after every boot, so that a pid and start time of an earlier boot name nobody."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
