"""Small scripts named `istioctl` and `minikube` that hand over to mizzen, so that tutorials run unchanged."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

SHIMS = {"istioctl": (), "minikube": ("minikube",), "mizzen": ()}


def write_shims(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, arguments in SHIMS.items():
        words = " ".join(shlex.quote(word) for word in (sys.executable, "-m", "mizzen.cli", *arguments))
        shim = folder / name
        shim.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        shim.chmod(0o755)
