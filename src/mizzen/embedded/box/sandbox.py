"""A Pod's namespaces: network, hostname, ipc and pid, held by a pause process that does nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import itertools
import os
import shutil
import signal
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

from mizzen.embedded.box import kernel, network
from mizzen.embedded.box.addresses import PODS

_PR_SET_NAME = 15
_SLEEP = shutil.which("sleep")
_KINDS = {
    "net": kernel.CLONE_NEWNET,
    "uts": kernel.CLONE_NEWUTS,
    "ipc": kernel.CLONE_NEWIPC,
    "pid": kernel.CLONE_NEWPID,
}
_FIRST = 10
"""The lowest Pod address's offset: below are the gateway and room for what a node may want."""


class Addresses:
    """Pod addresses in turn: one that was given back comes again only after all others have been used."""

    def __init__(self, network: ipaddress.IPv4Network = PODS) -> None:
        self._used: set[str] = set()
        self._turn = itertools.cycle(range(_FIRST, network.num_addresses - 1))
        self._network = network

    def take(self) -> str:
        """Raises OSError when every address is in use."""
        for _ in range(_FIRST, self._network.num_addresses - 1):
            address = str(self._network[next(self._turn)])
            if address not in self._used:
                self._used.add(address)
                return address
        raise OSError(f"no Pod address left in {self._network}")

    def give_back(self, address: str) -> None:
        self._used.discard(address)


def create(hostname: str, address: str, port: str, sysctls: Mapping[str, str], *, ipv6: bool = False) -> int:
    """Make the namespaces with `eth0` at `address` and the box's end named `port`. Returns the pause process's pid.

    `sysctls`: of these namespaces, by their dotted names.
    """
    with _away_from_home() as home:
        kernel.unshare(kernel.CLONE_NEWNET | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC)
        socket.sethostname(hostname)
        network.plug_in(address, home["net"], port, ipv6=ipv6)
        for name, value in sysctls.items():
            Path("/proc/sys", *name.split(".")).write_text(value)
        kernel.unshare(kernel.CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            pause()
    try:
        network.attach(port, address if ipv6 else "")
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    return pid


@contextlib.contextmanager
def _away_from_home() -> Iterator[dict[str, int]]:
    """Namespaces entered within are left again, so that failure on the way leaves nothing: nobody is in them."""
    home = {name: os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in _KINDS}
    try:
        yield home
    finally:
        for name, kind in _KINDS.items():
            kernel.setns(home[name], kind)
            os.close(home[name])


def pause() -> NoReturn:
    """Be pid 1, and nothing else. SIG_IGN makes the kernel reap orphans, so no code of ours runs again."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(0, 65536)
        if _SLEEP:
            # What is ignored stays ignored over exec; and this weighs a fraction of an interpreter's pages.
            os.execv(_SLEEP, ["sleep", "infinity"])  # noqa: S606 - no shell is the point
        ctypes.CDLL(None).prctl(_PR_SET_NAME, b"pause", 0, 0, 0)
        while True:
            signal.pause()
    finally:
        os._exit(1)
