"""What node and init say to each other on `run/init.sock`: a JSON document per message (SOCK_SEQPACKET).

A document too large for one message travels in a memfd, attached as the first descriptor. Requests carry `seq`, which
the reply repeats; a message with `event` is init's own.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

INLINE_LIMIT = 60_000
"""Well below net.core.wmem_default, which bounds a packet."""

_IN_MEMFD = b"M"
_MOST_DESCRIPTORS = 16

T = TypeVar("T")


class Mount(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`source` (a path in the box) appears at `target` in the container, or what is at `sub_path` below it, from where
    no link leads out of it. Without a source: a tmpfs of `size` bytes."""

    target: str
    source: str = ""
    sub_path: str = ""
    read_only: bool = False
    size: int = 0


class Process(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A process to start in a sandbox: `argv` by exec, or with `function` ("module:name") in a fork of init.

    With `join` (the id of a running process) it runs in that one's root, among its processes, and gets none of its own.
    With `shares_pids` it sees the processes of the whole Pod, with `beside` (likewise an id) those of that process.
    Descriptors sent with it: stdin, stdout, stderr, then those that init keeps for a node that comes back (`kept` names
    them in order).
    """

    id: str
    sandbox: str
    argv: list[str]
    function: str = ""
    join: str = ""
    shares_pids: bool = False
    beside: str = ""
    env: dict[str, str] = {}
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: list[int] = []
    capabilities: list[str] = []
    all_capabilities: bool = False
    no_new_privileges: bool = False
    tty: bool = False
    mounts: list[Mount] = []
    read_only_root: bool = False
    cgroups: list[str] = []
    kept: list[str] = []
    meta: dict[str, Any] = {}
    """The node's own notes, given back by `list`."""


class Exit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    code: int
    signal: int = 0
    oom: bool = False
    at: float = 0.0
    """Seconds since the epoch."""


class Running(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One process init knows: running, or ended and not yet forgotten."""

    id: str
    sandbox: str
    pid: int
    start_time: int
    started_at: float
    meta: dict[str, Any] = {}
    kept: list[str] = []
    exit: Exit | None = None


class Sandbox(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The namespaces of one Pod, held by a pause process."""

    id: str
    pid: int
    address: str
    created_at: float
    meta: dict[str, Any] = {}
    second_address: str = ""
    """Its IPv6 one; empty in a cluster without."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.address, self.second_address)))


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    sandboxes: list[Sandbox]
    processes: list[Running]


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    seq: int
    op: Literal["list", "create_sandbox", "remove_sandbox", "run", "signal", "forget", "adopt", "close"]
    id: str = ""
    hostname: str = ""
    sysctls: dict[str, str] = {}
    stream: str = ""
    """For `close`: which of the descriptors that init keeps it shall let go."""
    signal: int = 0
    meta: dict[str, Any] = {}
    process: Process | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A reply (`seq`; `error` if it went wrong) or an event: `exited` with `process`, `sandbox_gone` with `id`."""

    seq: int = 0
    event: Literal["", "exited", "sandbox_gone"] = ""
    error: str = ""
    reason: str = ""
    id: str = ""
    sandbox: Sandbox | None = None
    process: Running | None = None
    inventory: Inventory | None = None


def send(sock: socket.socket, message: Request | Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message whole. Raises BlockingIOError when the peer does not read, OSError when it is gone."""
    body = msgspec.json.encode(message)
    if len(body) <= INLINE_LIMIT:
        socket.send_fds(sock, [body], list(descriptors))
        return
    memory = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        os.write(memory, body)
        socket.send_fds(sock, [_IN_MEMFD], [memory, *descriptors])
    finally:
        os.close(memory)


def receive(sock: socket.socket, kind: type[T]) -> tuple[T, list[int]] | None:
    """The next message and its descriptors (now the caller's); None at the end of the connection."""
    body, descriptors, flags, _ = socket.recv_fds(sock, INLINE_LIMIT + 1, _MOST_DESCRIPTORS)
    if not body:
        return None
    if flags & socket.MSG_CTRUNC:
        close_all(descriptors)
        raise OSError("descriptors of a message were lost: too many open files?")
    if body == _IN_MEMFD:
        memory, *descriptors = descriptors
        with os.fdopen(memory, "rb") as file:
            file.seek(0)
            body = file.read()
    return msgspec.json.decode(body, type=kind), descriptors


def close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
