"""A cluster of a bench's own: private home and state, deleted at the end."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measuring import PYTHON, quiet_environment

NAME = "bench"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where `mizzen` runs; `state` is the cluster's folder."""

    environment: Mapping[str, str]
    state: Path

    def mizzen(self, *arguments: str) -> float:
        """Seconds that the command took. Raises CalledProcessError with what it said."""
        start = time.perf_counter()
        command = [PYTHON, "-m", "mizzen.cli", *arguments, "--name", NAME]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True, timeout=300)
        return time.perf_counter() - start

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"


@contextmanager
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="mizzen-bench-") as home:
        folders = {"HOME": home, "XDG_STATE_HOME": f"{home}/state", "XDG_CACHE_HOME": f"{home}/cache"}
        quiet = {key: value for key, value in quiet_environment(**folders).items() if key != "KUBECONFIG"}
        own = Machine(quiet, Path(home) / "state" / "mizzen" / NAME)
        try:
            yield own
        finally:
            own.mizzen("cluster", "delete")
