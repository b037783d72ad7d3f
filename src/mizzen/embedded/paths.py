"""Where a cluster keeps its state: `$XDG_STATE_HOME/mizzen/NAME`, private to its user.

The layout is a contract between box init, API server and node: docs/decisions/0001-processes-and-protocols.md.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

DEFAULT_NAME = "mizzen"
SOCKET_PATH_LIMIT = 107
"""A Unix socket's path may have 107 bytes: unix(7)."""

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class ClusterPaths:
    """The files of one cluster. Nothing is created by naming it; `prepare` makes the folders."""

    root: Path

    @property
    def box(self) -> Path:
        return self.root / "box.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def store(self) -> Path:
        return self.root / "store.db"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def images(self) -> Path:
        return self.root / "images.json"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def init_socket(self) -> Path:
        return self.run / "init.sock"

    @property
    def node_socket(self) -> Path:
        return self.run / "node.sock"

    @property
    def broker_socket(self) -> Path:
        return self.run / "broker.sock"

    @property
    def pods(self) -> Path:
        return self.root / "pods"

    @property
    def claims(self) -> Path:
        """Folders behind PersistentVolumeClaims: NAMESPACE/NAME."""
        return self.root / "claims"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def prepare(self) -> None:
        """Make the folders, readable by nobody else. Raises OSError, and ValueError where sockets cannot fit."""
        longest = max(len(os.fsencode(path)) for path in (self.init_socket, self.node_socket, self.broker_socket))
        if longest > SOCKET_PATH_LIMIT:
            raise ValueError(
                f"the state folder {self.root} is too deep: a socket path of {longest} bytes exceeds the kernel's "
                f"{SOCKET_PATH_LIMIT}; set XDG_STATE_HOME to a shorter folder"
            )
        for folder in (self.root, self.pki, self.run, self.pods, self.claims, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.root.chmod(0o700)


def state_home() -> Path:
    """`$XDG_STATE_HOME/mizzen`, by default `~/.local/state/mizzen`."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "mizzen"


def cluster_paths(name: str = DEFAULT_NAME, home: Path | None = None) -> ClusterPaths:
    """The paths of the cluster called `name` (a DNS label of at most 40 characters). Raises ValueError."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a cluster: use lower-case letters, digits and '-', 40 at most")
    return ClusterPaths((home or state_home()) / name)


def cluster_names(home: Path | None = None) -> list[str]:
    """Every cluster that has a state folder, running or not."""
    base = home or state_home()
    return sorted(entry.name for entry in base.iterdir() if entry.is_dir()) if base.is_dir() else []
