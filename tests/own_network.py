"""Process tests use Istio's fixed ports and make interfaces: as root, in a network namespace of their own.

So they disturb nobody on this machine, nobody disturbs them, and several workers may run at once.
"""

from __future__ import annotations

import os
from pathlib import Path

from pyroute2 import IPRoute

from mizzen.embedded.box import kernel

_NETWORK = Path("/proc/self/ns/net")
_HOME = _NETWORK.readlink()


def enter() -> None:
    """Move this process, and all that it starts from now on, into a fresh network with a loopback: once, as root."""
    if os.geteuid() != 0 or _NETWORK.readlink() != _HOME:
        return
    kernel.unshare(kernel.CLONE_NEWNET)
    with IPRoute() as route:
        route.link("set", index=1, state="up")
