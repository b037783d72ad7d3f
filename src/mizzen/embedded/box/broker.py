"""Sockets of the machine's own network for a box that has no link to it: a process of the box that stayed outside.

It is forked before pid 1 leaves the machine's network namespace, and lives in the box's pid namespace: it ends with the
box. Whoever may open `run/broker.sock` asks it to listen or to connect, and is handed the socket; `accept`, `connect`
and all that follows then happen in the machine's network, wherever the socket is used.
"""

from __future__ import annotations

import errno
import os
import selectors
import signal
import socket
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

_LIMIT = 4096


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One socket: listening on `address`:`port`, or connecting there (begun, not awaited)."""

    op: Literal["listen", "connect"]
    address: str
    port: int
    kind: Literal["tcp", "udp"] = "tcp"


class Answer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Errno 0 comes with a descriptor."""

    errno: int = 0


def fork(path: Path, keep_out: tuple[int, ...]) -> int:
    """Start the broker; `keep_out` are descriptors it must not hold. Returns its pid."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    path.unlink(missing_ok=True)
    listener.bind(str(path))
    listener.listen(64)
    pid = os.fork()
    if pid == 0:
        for descriptor in keep_out:
            os.close(descriptor)
        _live(listener)
    listener.close()
    return pid


def _live(listener: socket.socket) -> NoReturn:
    """Only the end of the box ends it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    try:
        _serve(listener)
    finally:
        os._exit(1)


def _serve(listener: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                selector.register(listener.accept()[0], selectors.EVENT_READ)
                continue
            client = key.fileobj
            assert isinstance(client, socket.socket)
            if not _answer(client):
                selector.unregister(client)
                client.close()


def _answer(client: socket.socket) -> bool:
    """One request; False when the client is gone, or said something that is none."""
    try:
        content = client.recv(_LIMIT)
        if not content:
            return False
        made = open_socket(msgspec.json.decode(content, type=Wanted))
    except msgspec.DecodeError:
        return False
    except OSError as error:
        client.send(msgspec.json.encode(Answer(errno=error.errno or errno.EIO)))
        return True
    with made:
        socket.send_fds(client, [msgspec.json.encode(Answer())], [made.fileno()])
    return True


def open_socket(wanted: Wanted) -> socket.socket:
    """A non-blocking socket of this process's network. Raises OSError."""
    family = socket.AF_INET6 if ":" in wanted.address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM if wanted.kind == "tcp" else socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if wanted.op == "listen":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind((wanted.address, wanted.port))
            if wanted.kind == "tcp":
                made.listen(256)
        else:
            code = made.connect_ex((wanted.address, wanted.port))
            if code not in (0, errno.EINPROGRESS):
                raise OSError(code, os.strerror(code))
    except BaseException:
        made.close()
        raise
    return made


def ask(path: Path, wanted: Wanted) -> socket.socket:
    """A socket from the broker. Raises OSError: the broker's, or because there is no broker."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(5)
        client.connect(str(path))
        client.send(msgspec.json.encode(wanted))
        content, descriptors, _, _ = socket.recv_fds(client, _LIMIT, 1)
    if not content:
        raise OSError(errno.EIO, "the broker gave no answer")
    code = msgspec.json.decode(content, type=Answer).errno
    if code:
        raise OSError(code, f"{wanted.op} {wanted.address}:{wanted.port}: {os.strerror(code)}")
    made = socket.socket(fileno=descriptors[0])
    made.setblocking(False)
    return made
