"""Pid 1 of the box: `python -m mizzen.embedded.box.init`, started by `create.start`.

The process that is started makes the namespaces, forks pid 1 into them, reports its pid to the host and leaves. Pid 1
then waits for the host's word ("go", with the box's address); without it, it ends. From then on it needs nobody.
Single-threaded for good: it forks, and it changes its own namespaces for moments.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from mizzen.embedded.box import addresses, broker, kernel, network, rootfs, spawn
from mizzen.embedded.box.daemons import Daemon, box_daemons
from mizzen.embedded.box.messages import Message, Request, close_all, receive, send
from mizzen.embedded.box.pods import PodProcesses, Refused
from mizzen.embedded.box.preload import Preload, everything
from mizzen.embedded.paths import ClusterPaths

log = logging.getLogger("mizzen.init")


class Go(msgspec.Struct, frozen=True, kw_only=True):
    """The host's word to a new pid 1. `address` is empty where there is no link to the host (rootless)."""

    address: str = ""
    ipv6: bool = False
    """The link to the host has it, too."""


@dataclass(slots=True)
class Init:
    """The event loop's state: one listener, the node's connections, two daemons, the Pods' processes."""

    paths: ClusterPaths
    pods: PodProcesses
    daemons: Sequence[Daemon]
    preload: Preload
    broker: int
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    clients: set[socket.socket] = field(default_factory=set)

    def serve(self, listener: socket.socket, wakeup: int) -> None:
        """Until this process is killed."""
        self.selector.register(listener, selectors.EVENT_READ)
        self.selector.register(wakeup, selectors.EVENT_READ)
        while True:
            self._start_due()
            # The daemons come first: on a small machine they would have to share its processors with the imports.
            idle = bool(self.clients and self.preload)
            ready = self.selector.select(0 if idle else self._patience())
            if idle and not ready:
                self.preload.step()
            for key, _ in ready:
                if key.fileobj == wakeup:
                    os.read(wakeup, 4096)
                elif key.fileobj is listener:
                    self._accept(listener)
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    self._read(key.fileobj)
            self._reap()

    def tell(self, message: Message) -> None:
        for client in list(self.clients):
            self._send(client, message)

    def _start_due(self) -> None:
        now = time.monotonic()
        for daemon in self.daemons:
            if daemon.due is not None and daemon.due <= now:
                daemon.start(now)

    def _patience(self) -> float | None:
        due = [daemon.due for daemon in self.daemons if daemon.due is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _accept(self, listener: socket.socket) -> None:
        client, _ = listener.accept()
        client.setblocking(False)
        self.clients.add(client)
        self.selector.register(client, selectors.EVENT_READ)

    def _drop(self, client: socket.socket) -> None:
        if client in self.clients:
            self.clients.discard(client)
            self.selector.unregister(client)
            client.close()

    def _send(self, client: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
        """A client that does not read loses its connection: it lists again when it is back."""
        try:
            send(client, message, descriptors)
        except OSError as error:
            log.warning("a client of init.sock is gone or stuck: %s", error)
            self._drop(client)

    def _read(self, client: socket.socket) -> None:
        try:
            received = receive(client, Request)
        except (OSError, msgspec.DecodeError) as error:
            log.warning("a client of init.sock said something unreadable: %s", error)
            received = None
        if received is None:
            self._drop(client)
            return
        request, descriptors = received
        try:
            reply, attached = self._answer(request, descriptors)
            self._send(client, reply, attached)
        finally:
            close_all(descriptors)

    def _answer(self, request: Request, descriptors: Sequence[int]) -> tuple[Message, Sequence[int]]:
        if request.process and request.process.function:
            self.preload.finish()
        try:
            return self.pods.answer(request, descriptors)
        except (Refused, spawn.StartError) as error:
            return Message(seq=request.seq, error=str(error), reason=error.reason), ()
        except OSError as error:
            log.exception("%s %s", request.op, request.id)
            return Message(
                seq=request.seq, error=str(error), reason=errno.errorcode.get(error.errno or 0, "OSError")
            ), ()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                if not self.pods.reaped(pid, status):
                    self._note_daemon(pid, status)

    def _note_daemon(self, pid: int, status: int) -> None:
        """Or of the broker: it cannot be started again from within, and new ports are refused from now on."""
        for daemon in self.daemons:
            if daemon.pid == pid:
                log.warning("%s", daemon.ended(status, time.monotonic()))
        if pid == self.broker:
            log.error("the broker ended with %d; no new connections to the machine", os.waitstatus_to_exitcode(status))


def enter_namespaces(control: socket.socket) -> bool:
    """True in the new pid 1; False in the process that is left outside, after it has reported pid 1 to the host."""
    if os.geteuid():
        become_root_of_own()
    kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWUTS | kernel.CLONE_NEWIPC)
    pid = os.fork()
    if pid == 0:
        return True
    control.send(str(pid).encode())
    return False


def become_root_of_own() -> None:
    """A user namespace in which this user is root and nobody else exists: user_namespaces(7)."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/self/gid_map").write_text(f"0 {gid} 1")


def single_user() -> bool:
    """Whether this user namespace maps a single id, so that setuid to another is impossible."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return len(lines) == 1 and lines[0].split()[2] == "1"


def prepare_mounts() -> None:
    """Nothing mounted here reaches the machine; /proc shows the box."""
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("proc", "/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)


def run(paths: ClusterPaths, control: socket.socket, api_listener: int, *, bare: bool, ipv6: bool) -> None:
    """Pid 1's life."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    prepare_mounts()
    # Whoever collects garbage writes to every object, and so has a copy of its own of what a fork shares.
    gc.freeze()
    outside = broker.fork(paths.broker_socket, keep_out=(control.fileno(), api_listener))
    kernel.unshare(kernel.CLONE_NEWNET)
    stage = paths.run / "stage"
    stage.mkdir(exist_ok=True)
    network.prepare_box(ipv6=ipv6)
    socket.sethostname("mizzen")
    _wait_for_go(control)
    wakeup = _wake_on_children()
    listener = _listen(paths.init_socket)
    place = spawn.Place(stage=stage, shared=rootfs.python_folders(), single_user=single_user())
    daemons = [] if bare else box_daemons(paths.root, api_listener, addresses.API_ADDRESS, ipv6=ipv6)
    pods = PodProcesses(place, lambda message: init.tell(message), ipv6)
    init = Init(paths, pods, daemons, Preload(()) if bare else everything(), outside)
    init.serve(listener, wakeup)


def _wait_for_go(control: socket.socket) -> None:
    """Tell the host that the namespaces stand, then wait for the address. A host that died lets the box die too."""
    control.send(b"ready")
    word = control.recv(4096)
    if not word:
        sys.exit("the host side of the start is gone")
    go = msgspec.json.decode(word, type=Go)
    if go.address:
        network.configure_uplink(go.address, ipv6=go.ipv6)
    control.close()


def _wake_on_children() -> int:
    """A descriptor that becomes readable on SIGCHLD."""
    read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return read_end


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    listener.listen(8)
    return listener


def main() -> None:
    parser = argparse.ArgumentParser(prog="mizzen.embedded.box.init")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--control", type=int, required=True, help="socket to the host side of the start")
    parser.add_argument("--api-fd", type=int, required=True, help="listening socket for the API server")
    parser.add_argument("--bare", action="store_true", help="no daemons, nothing preloaded")
    parser.add_argument("--ipv6", action="store_true", help="Pods and Services have IPv6 addresses, too")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    control = socket.socket(fileno=options.control)
    control.set_inheritable(False)
    if enter_namespaces(control):
        run(ClusterPaths(options.state), control, options.api_fd, bare=options.bare, ipv6=options.ipv6)


if __name__ == "__main__":
    main()
