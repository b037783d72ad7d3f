"""System calls that Python 3.11 does not offer: namespaces, mounts, capabilities. Every failure is an OSError.

unshare(2), setns(2), mount(2), mount_setattr(2), pivot_root(2), prctl(2), capabilities(7).
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Iterable
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR_NODEV = 4
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442

CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
"""Names by number: capabilities(7), without the CAP_ prefix, as Kubernetes writes them."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, kind: int = 0) -> None:
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), f"setns({kind:#x})")


def mount(source: str, target: str | Path, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        source.encode(), os.fsencode(target), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {source} on {target}")


def bind(source: str | Path, target: str | Path, *, read_only: bool, devices: bool = False) -> None:
    """Make `source` appear at `target` too. Read-only holds for what is mounted below as well, and so does that device
    files lead nowhere: who may make some would reach the disks of the machine by them.
    """
    mount(os.fspath(source), target, flags=MS_BIND | MS_REC)
    restrict(target, (_MOUNT_ATTR_RDONLY if read_only else 0) | (0 if devices else _MOUNT_ATTR_NODEV))


def make_read_only(target: str | Path) -> None:
    """A mount, and what is mounted below it."""
    restrict(target, _MOUNT_ATTR_RDONLY)


def restrict(target: str | Path, flags: int) -> None:
    """mount_setattr instead of a remount: it adds flags and so never clears the locked ones of a user namespace."""
    attributes = struct.pack("=QQQQ", flags, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
    )
    _check(result, f"mount_setattr {target}")


def unmount(target: str | Path) -> None:
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(MNT_DETACH)), f"umount {target}")


def pivot_root(new_root: str | Path) -> None:
    """Make `new_root` (a mount point) the root and forget the old one; the working directory becomes /."""
    os.chdir(new_root)
    number = _PIVOT_ROOT[platform.machine()]
    # Both names "." stack the old root on the new one, so that no folder for it is needed: pivot_root(2).
    _check(_libc.syscall(ctypes.c_long(number), ctypes.c_char_p(b"."), ctypes.c_char_p(b".")), f"pivot_root {new_root}")
    unmount(".")
    os.chdir("/")


def die_with_parent(signal_number: int) -> None:
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), 0, 0, 0), "prctl(PDEATHSIG)")


def no_new_privileges() -> None:
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl(NO_NEW_PRIVS)")


def capability_mask(names: Iterable[str]) -> int:
    """Bits of the named capabilities. Raises ValueError for a name this program does not know."""
    return sum(1 << CAPABILITIES.index(name.removeprefix("CAP_")) for name in set(names))


def bounding_set() -> int:
    """The calling process's bounding set, as bits."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return int(line.split()[1], 16)
    raise OSError("no CapBnd in /proc/self/status")


def limit_bounding_set(keep: int) -> None:
    """Drop every capability outside `keep` for good; needs SETPCAP, so call it before changing the user."""
    present = bounding_set()
    for number in range(64):
        if present >> number & 1 and not keep >> number & 1:
            _check(_libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(number), 0, 0, 0), f"prctl(CAPBSET_DROP, {number})")


def set_capabilities(mask: int) -> None:
    """Permitted and effective become `mask` (which the process must hold); nothing is inheritable."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _check(_libc.capset(header, struct.pack("=IIIIII", low, low, 0, high, high, 0)), "capset")
