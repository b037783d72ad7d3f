"""Starting one process of a Pod from init: fork into the Pod's namespaces, build its root, become its user, run.

Init stays single-threaded, so a plain fork is safe. It points its own `pid_for_children` at the pid namespace of the
container for the duration of the fork: the child is in there, yet init's own child, and its exit status comes to init.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import importlib
import json
import os
import select
import signal
import socket
import stat
import sys
import termios
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mizzen.embedded.box import kernel, rootfs, sandbox
from mizzen.embedded.box.messages import Process

_START_LIMIT = 20.0
_ROOT = b"root"
_REPORT_LIMIT = 65536
_MESSAGE_LIMIT = 8000
_MOST_DESCRIPTORS = 65536


class StartError(Exception):
    """A process could not be started. `reason` is what a kubelet would put into the container's state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True, slots=True)
class Place:
    """Where a new process goes: the box's own facts."""

    stage: Path
    shared: Sequence[Path]
    single_user: bool
    """A user namespace with one id: nobody but uid 0 exists."""


@dataclass(frozen=True, slots=True)
class Started:
    """A process that runs its program. `root`: a descriptor of its mount namespace, if it has one of its own; `first`:
    pid 1 of its pid namespace, if that is its own, else 0."""

    pid: int
    root: int | None
    first: int


def start(process: Process, place: Place, pause: int, joined: int, beside: int, stdio: Sequence[int]) -> Started:
    """Fork `process` into the Pod whose pause process is `pause`; with `joined`, into that process's root;
    with `beside`, among that process's.

    Raises StartError.
    """
    report, child_report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with report:
        pid, first = _fork(process, place, pause, joined, beside, stdio, child_report)
        failure, root = _read_report(report)
    if failure:
        for one in filter(None, (pid, first)):
            os.kill(one, signal.SIGKILL)
            os.waitpid(one, 0)
        if root is not None:
            os.close(root)
        raise failure
    return Started(pid, root, first)


def _fork(
    process: Process,
    place: Place,
    pause: int,
    joined: int,
    beside: int,
    stdio: Sequence[int],
    report: socket.socket,
) -> tuple[int, int]:
    """The process, and pid 1 of its own pid namespace or 0."""
    try:
        with _children_elsewhere():
            first = _enter_pids(process, pause, joined or beside)
            pid = os.fork()
            if pid == 0:
                _child(process, place, pause, joined, stdio, report)
            return pid, first
    except OSError as error:
        raise StartError("StartError", f"the Pod's namespaces are gone: {error}") from error
    finally:
        report.close()


@contextlib.contextmanager
def _children_elsewhere() -> Iterator[None]:
    """Whatever pid namespace is chosen for children within, afterwards they are born at home again."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        kernel.setns(own, kernel.CLONE_NEWPID)
        os.close(own)


def _enter_pids(process: Process, pause: int, other: int) -> int:
    """Choose where the next child is born. A container sees its own processes alone, or a root in it would reach into
    the proxy beside it, and to that one's key. What runs in it is not pid 1: that would be deaf to SIGTERM."""
    if other or process.shares_pids:
        _join(other or pause, "pid", kernel.CLONE_NEWPID)
        return 0
    kernel.unshare(kernel.CLONE_NEWPID)
    first = os.fork()
    if first == 0:
        sandbox.pause()
    return first


def _join(pid: int, name: str, kind: int) -> None:
    namespace = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.setns(namespace, kind)
    finally:
        os.close(namespace)


def _read_report(report: socket.socket) -> tuple[StartError | None, int | None]:
    """What went wrong in the child, if anything, and its root. The end of the report means that the program runs."""
    root, failure = None, None
    while select.select([report], [], [], _START_LIMIT)[0]:
        content, descriptors, _, _ = socket.recv_fds(report, _REPORT_LIMIT, 1)
        if not content:
            return failure, root
        if content == _ROOT:
            root = descriptors[0]
        else:
            told = json.loads(content)
            failure = StartError(told["reason"], told["message"])
    return StartError("StartError", f"the container was not set up within {_START_LIMIT:.0f} s"), root


def _child(
    process: Process, place: Place, pause: int, joined: int, stdio: Sequence[int], report: socket.socket
) -> NoReturn:
    """Never returns into init's code, whatever happens."""
    code = 128
    try:
        _reset_signals()
        os.umask(0o022)
        os.setsid()
        program = _prepare(process, place, pause, joined, stdio, report)
        code = program()
    except StartError as error:
        _tell(report, error.reason, error.message)
    except OSError as error:
        _tell(report, "StartError", str(error))
    except BaseException:
        _tell(report, "StartError", traceback.format_exc(limit=4))
    finally:
        os._exit(code)


def _tell(report: socket.socket, reason: str, message: str) -> None:
    """The pipe is closed once the program runs; then the message belongs into its own log."""
    try:
        report.send(json.dumps({"reason": reason, "message": message[:_MESSAGE_LIMIT]}).encode())
    except OSError:
        sys.stderr.write(message + "\n")
        sys.stderr.flush()


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _prepare(
    process: Process, place: Place, pause: int, joined: int, stdio: Sequence[int], report: socket.socket
) -> Callable[[], int]:
    """Everything up to the program itself, as whoever it shall run as."""
    for path in process.cgroups:
        Path(path).write_text("0")
    for name, kind in (("net", kernel.CLONE_NEWNET), ("uts", kernel.CLONE_NEWUTS), ("ipc", kernel.CLONE_NEWIPC)):
        _join(pause, name, kind)
    _take_stdio(stdio, report.fileno(), tty=process.tty)
    if not place.single_user:
        _own_stdio(process)
    if joined:
        _join(joined, "mnt", kernel.CLONE_NEWNS)
    else:
        rootfs.enter(place.stage, place.shared, process.mounts, read_only=process.read_only_root)
        _show_root(report)
    if process.no_new_privileges:
        kernel.no_new_privileges()
    _become(process, single_user=place.single_user)
    _change_folder(process.cwd)
    return _function(process, report) if process.function else _command(process)


def _take_stdio(stdio: Sequence[int], report: int, *, tty: bool) -> None:
    """Descriptors 0 to 2, and of init's own only the report pipe: it closes at exec."""
    for target, descriptor in enumerate(stdio[:3]):
        os.dup2(descriptor, target)
    os.closerange(3, report)
    os.closerange(report + 1, _MOST_DESCRIPTORS)
    if tty:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _show_root(report: socket.socket) -> None:
    """Init gets hold of the new mount namespace before the program can end."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    socket.send_fds(report, [_ROOT], [namespace])
    os.close(namespace)


def _own_stdio(process: Process) -> None:
    """The process may open /dev/stdout anew, as Envoy's access log does: for what is its own, that takes its owner's
    rights."""
    for descriptor in range(3):
        if process.tty or stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.fchown(descriptor, process.uid, process.gid)


def _become(process: Process, *, single_user: bool) -> None:
    present = kernel.bounding_set()
    named = kernel.capability_mask(process.capabilities)
    keep = present if process.all_capabilities else present & named
    kernel.limit_bounding_set(keep)
    if not single_user:
        os.setgroups(sorted({process.gid, *process.groups}))
        os.setresgid(process.gid, process.gid, process.gid)
        os.setresuid(process.uid, process.uid, process.uid)
    if process.uid == 0 or single_user:
        kernel.set_capabilities(keep)


def _change_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        raise StartError("StartError", f"workingDir {folder}: {error.strerror}") from error


def _command(process: Process) -> Callable[[], int]:
    def program() -> int:
        try:
            os.execvpe(process.argv[0], process.argv, process.env)  # noqa: S606 - no shell is the point
        except OSError as error:
            why = "executable file not found in $PATH" if error.errno == errno.ENOENT else error.strerror
            raise StartError("StartError", f'exec: "{process.argv[0]}": {why}') from error

    return program


def _function(process: Process, report: socket.socket) -> Callable[[], int]:
    """The named function in this very process; `sys.argv`, environment and standard streams are its own."""

    def program() -> int:
        os.environ.clear()
        os.environ.update(process.env)
        sys.argv = list(process.argv)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as every interpreter begins: a closed connection is an OSError
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
        module, _, name = process.function.partition(":")
        function: Callable[[], Any] = getattr(importlib.import_module(module), name)
        report.close()
        return _exit_code(function)

    return program


def _exit_code(function: Callable[[], Any]) -> int:
    """What the interpreter would make of a program whose last line calls `function`."""
    try:
        result = function()
    except SystemExit as stop:
        result = stop.code
    except KeyboardInterrupt:
        return 130
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    if isinstance(result, str):
        print(result, file=sys.stderr, flush=True)
        return 1
    return int(result or 0) & 0xFF
