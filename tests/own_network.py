"""Process and end-to-end tests use Istio's fixed ports and make interfaces: in a network namespace of their own.

So they disturb nobody on this machine, nobody disturbs them, and several workers may run at once. Root makes one at
once. Somebody else needs a user namespace around it, and only a process with one thread may enter such a one: the one
that starts the workers does, and hands its rights on. What the tests themselves start is an ordinary user's again.
Where the kernel allows no user namespaces, the tests share the machine's network.
"""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

import pytest
from pyroute2 import IPRoute

from mizzen.embedded.box import kernel

_NETWORK = Path("/proc/self/ns/net")
_HOME = _NETWORK.readlink()
_NEEDED = kernel.capability_mask(["SYS_ADMIN", "NET_ADMIN"])
_PR_CAP_AMBIENT, _RAISE, _CLEAR_ALL = 47, 2, 4
_libc = ctypes.CDLL(None, use_errno=True)


def enter() -> None:
    """Move this process, and all that it starts from now on, into a fresh network with a loopback: once."""
    if _NETWORK.readlink() != _HOME:
        return
    if os.geteuid() == 0 or _effective() & _NEEDED == _NEEDED:
        kernel.unshare(kernel.CLONE_NEWNET)
    else:
        try:
            _enter_user_namespace()
        except OSError:
            return
    with IPRoute() as route:
        route.link("set", index=1, state="up")


def configured(config: pytest.Config) -> None:
    """What runs tests gives its children no rights but the user's own; what starts workers keeps them for those."""
    if os.geteuid() != 0 and (hasattr(config, "workerinput") or not config.getoption("numprocesses", None)):
        _prctl(_CLEAR_ALL, 0)


def _effective() -> int:
    line = next(
        line for line in Path("/proc/thread-self/status").read_text().splitlines() if line.startswith("CapEff:")
    )
    return int(line.split()[1], 16)


def _enter_user_namespace() -> None:
    """Still the same user, with all rights over a network of its own. Raises OSError."""
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    header = struct.pack("=Ii", 0x20080522, 0)
    held = _effective() & 0xFFFFFFFF
    if _libc.capset(header, struct.pack("=IIIIII", held, held, _NEEDED, 0, 0, 0)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
    for number, name in enumerate(kernel.CAPABILITIES):
        if name in ("SYS_ADMIN", "NET_ADMIN"):
            _prctl(_RAISE, number)


def _prctl(what: int, number: int) -> None:
    if _libc.prctl(_PR_CAP_AMBIENT, ctypes.c_ulong(what), ctypes.c_ulong(number), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_CAP_AMBIENT)")
