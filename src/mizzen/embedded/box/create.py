"""The host's side of the box: start it, find it, stop it. Nothing here outlives the call but the box itself."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from mizzen.embedded.box import cgroups, network
from mizzen.embedded.box.addresses import second_address
from mizzen.embedded.box.init import Go, single_user
from mizzen.embedded.box.proc import boot_id, start_time
from mizzen.embedded.box.record import Box, BoxError, is_alive, read, record, running
from mizzen.embedded.paths import ClusterPaths

FAMILIES = "MIZZEN_IP_FAMILIES"
"""`IPv4`, or `IPv4,IPv6`. Not set: both where this machine has IPv6."""
_SETUP_LIMIT = 20.0
_STOP_LIMIT = 20.0
_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "XDG_CACHE_HOME")
_PASSED_ON_PREFIXES = ("LC_", "MIZZEN_", "PYTHON")


def start(paths: ClusterPaths, *, bare: bool = False) -> Box:
    """The running box, made now if there is none. Raises BoxError; then nothing is left behind.

    A `bare` box has no daemons and nothing preloaded: somebody else plays the node.
    """
    try:
        paths.prepare()
    except ValueError as error:
        raise BoxError(str(error)) from error
    with _locked(paths.lock):
        found = running(paths)
        if found:
            return found
        forget_limits(paths)
        previous = read(paths)
        with _api_listener(previous.api_port if previous else 0) as listener:
            return _make(paths, listener, bare=bare)


def stop(paths: ClusterPaths) -> bool:
    """End the box and wait until all of it is gone. False if none was running. Raises BoxError after 20 s."""
    if not paths.root.is_dir():
        return False
    with _locked(paths.lock):
        box = running(paths)
        if box:
            end(box)
        forget_limits(paths)
        return bool(box)


def forget_limits(paths: ClusterPaths) -> None:
    """Remove the empty cgroups that outlive a box."""
    found = cgroups.hierarchy(paths.root)
    if found:
        found.remove()


def end(box: Box) -> None:
    """Kill pid 1: the kernel ends everything in its pid namespace, and with it every other namespace and the link."""
    with contextlib.suppress(ProcessLookupError), _pidfd(box.pid) as descriptor:
        # The pidfd holds on to *a* process of that pid; only now is it certain that it is the box's.
        if not is_alive(box):
            return
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        if not select.select([descriptor], [], [], _STOP_LIMIT)[0]:
            raise BoxError(f"the box (pid {box.pid}) did not end within {_STOP_LIMIT:.0f} s")
    if box.interface:
        network.leave_host(box.interface)


def wants_ipv6(asked: str, *, has_ipv6: bool) -> bool:
    """What `MIZZEN_IP_FAMILIES` comes to on a machine with or without IPv6. Raises BoxError."""
    if asked not in ("", "IPv4", "IPv4,IPv6"):
        raise BoxError(f"{FAMILIES} is {asked!r}: it may be `IPv4` or `IPv4,IPv6`, or not be set")
    if asked == "IPv4,IPv6" and not Path("/proc/sys/net/ipv6").exists():
        raise BoxError(f"{FAMILIES} asks for IPv6, which this machine's kernel does not have: take it out, or unset it")
    return asked == "IPv4,IPv6" or (has_ipv6 and not asked)


def _make(paths: ClusterPaths, listener: socket.socket, *, bare: bool) -> Box:
    ipv6 = wants_ipv6(os.environ.get(FAMILIES, ""), has_ipv6=network.machine_has_ipv6())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.settimeout(_SETUP_LIMIT)
        with theirs:
            outside = _launch(paths, theirs, listener, bare=bare, ipv6=ipv6)
        try:
            pid = _expect_pid(ours, paths)
            box = _join(paths, pid, listener.getsockname()[1], ipv6=ipv6)
        finally:
            # Closing our end without "go" ends the new pid 1, and the box with it.
            outside.wait()
        ours.send(msgspec.json.encode(Go(address=box.address if box.interface else "", ipv6=bool(box.second_address))))
    return box


def _launch(
    paths: ClusterPaths, control: socket.socket, listener: socket.socket, *, bare: bool, ipv6: bool
) -> subprocess.Popen[bytes]:
    descriptors = (control.fileno(), listener.fileno())
    command = [sys.executable, "-m", "mizzen.embedded.box.init", "--state", str(paths.root)]
    command += [*(["--bare"] if bare else []), *(["--ipv6"] if ipv6 else [])]
    with (paths.logs / "init.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--control", str(descriptors[0]), "--api-fd", str(descriptors[1])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=descriptors,
            start_new_session=True,
            cwd="/",
            env=environment(os.environ),
        )


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """What the box needs of its starter's. The rest, credentials perhaps, no Pod must find: a process that was forked
    without exec shows in /proc what its ancestor began with."""
    return {name: value for name, value in own.items() if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)}


def _expect_pid(control: socket.socket, paths: ClusterPaths) -> int:
    """Pid 1's pid as the host sees it, then its word that the namespaces stand; in whichever order."""
    pid, ready = 0, False
    while not (pid and ready):
        try:
            word = control.recv(64)
        except TimeoutError as error:
            raise BoxError(
                f"the box was not set up within {_SETUP_LIMIT:.0f} s; see {paths.logs / 'init.log'}"
            ) from error
        if not word:
            raise BoxError(
                f"the box could not be made: {_last_line(paths.logs / 'init.log')} (`mizzen doctor` says more)"
            )
        if word == b"ready":
            ready = True
        else:
            pid = int(word)
    return pid


def _join(paths: ClusterPaths, pid: int, port: int, *, ipv6: bool) -> Box:
    """Connect the new box to the host and record it. An error leaves it to die for want of a "go"."""
    rootless = os.geteuid() != 0 or single_user()
    uplink = None if rootless else network.join_host(pid, interface_name(paths), ipv6=ipv6)
    box = Box(
        pid=pid,
        start_time=start_time(pid),
        boot_id=boot_id(),
        address=uplink.address if uplink else "127.0.0.1",
        api_port=port,
        host_address=uplink.host_address if uplink else "",
        interface=uplink.interface if uplink else "",
        rootless=rootless,
        ipv6=ipv6,
        second_address=second_address(uplink.address) if uplink and uplink.ipv6 else "",
    )
    record(paths, box)
    return box


def interface_name(paths: ClusterPaths) -> str:
    """The host's end of the link: at most 15 characters, different for every state folder."""
    return f"mizzen{zlib.crc32(os.fsencode(paths.root)):08x}"


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    return lines[-1] if lines else "its first process ended without a word"


@contextlib.contextmanager
def _api_listener(port: int) -> Iterator[socket.socket]:
    """A listening socket on the host's loopback: the port of last time if it is free, because clients cache it."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.bind(("127.0.0.1", 0))
        listener.listen(256)
        yield listener


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One start or stop at a time per cluster; the kernel releases the lock of a process that died."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
