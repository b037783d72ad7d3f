"""The box's two daemons, started by init and started again when they end, ever more slowly if they keep ending."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
STEADY_AFTER = 10.0
"""Seconds a daemon must have run for its next end to count as a first one."""


def next_wait(previous: float, ran_for: float) -> float:
    """Seconds to wait before starting a daemon that just ended again."""
    return FIRST_WAIT if ran_for >= STEADY_AFTER or not previous else min(previous * 2, LONGEST_WAIT)


@dataclass(slots=True)
class Daemon:
    """One child program of init. `due` is when (monotonic) to start it, None while it runs."""

    name: str
    argv: Sequence[str]
    log: Path
    descriptors: Sequence[int] = ()
    pid: int = 0
    due: float | None = 0.0
    _started: float = 0.0
    _wait: float = field(default=0.0)

    def start(self, now: float) -> None:
        with self.log.open("ab") as log:
            # Popen, not fork: nothing of init's preloaded memory shall live on in a daemon.
            process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=self.descriptors, cwd="/"
            )
        self.pid, self.due, self._started = process.pid, None, now
        process.returncode = 0  # init reaps by itself; Popen's own bookkeeping must not warn or wait

    def ended(self, status: int, now: float) -> str:
        """Plan the next start; returns what to log about this end."""
        self._wait = next_wait(self._wait, now - self._started)
        self.pid, self.due = 0, now + self._wait
        return f"{self.name} ended with {os.waitstatus_to_exitcode(status)}, starting it again in {self._wait:.1f} s"


def box_daemons(state: Path, listener: int, cluster_ip: str, *, ipv6: bool) -> list[Daemon]:
    """API server and node. `listener` is the socket that the host opened for the API server."""
    python = [sys.executable, "-m"]
    apiserver = [*python, "mizzen.embedded.apiserver", "--state", str(state), "--fd", str(listener)]
    return [
        Daemon(
            "apiserver",
            [*apiserver, "--cluster-ip", cluster_ip, *(["--ipv6"] if ipv6 else [])],
            state / "logs" / "apiserver.log",
            descriptors=(listener,),
        ),
        Daemon("node", [*python, "mizzen.embedded.node", "--state", str(state)], state / "logs" / "node.log"),
    ]
