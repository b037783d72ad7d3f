"""Small scripts named `istioctl` and `minikube` that hand over to mizzen, so that tutorials run unchanged."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

SHIMS = {"istioctl": (), "minikube": ("minikube",), "mizzen": ()}


def shims_folder() -> Path:
    """Not in a cluster's state: shells remember where a command was, also after the cluster is deleted."""
    base = os.environ.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "mizzen" / "bin"


def write_shims(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in SHIMS.items():
        words = " ".join(shlex.quote(word) for word in (sys.executable, "-m", "mizzen.cli", *arguments))
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        shim.chmod(0o755)
