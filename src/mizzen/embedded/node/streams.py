"""exec, attach and port-forward over a WebSocket: the first byte of a message is its channel."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket as sockets
import struct
import termios
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import msgspec
from aiohttp import WSMsgType, web

from mizzen.embedded.box.kernel import setns
from mizzen.embedded.box.messages import Exit
from mizzen.embedded.node.execution import execute as start
from mizzen.embedded.node.init_client import InitError
from mizzen.embedded.node.live import Live
from mizzen.embedded.node.logfiles import Listener
from mizzen.embedded.node.stdio import Stdio

PROTOCOL = "v5.channel.k8s.io"
REFUSAL = "Refusal"
"""The header that says why there is no connection."""
STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK = 32768
_SUCCESS: dict[str, object] = {"metadata": {}, "status": "Success"}


_Cells: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]


class _Size(msgspec.Struct, frozen=True, rename="pascal"):
    """Of a terminal, as clients tell it."""

    width: _Cells = 0
    height: _Cells = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def status_of(exit: Exit) -> dict[str, object]:
    """The Status that ends a session; kubectl takes its exit code from `details.causes`."""
    if exit.code == 0:
        return dict(_SUCCESS)
    return {
        "metadata": {},
        "status": "Failure",
        "reason": "NonZeroExitCode",
        "message": f"command terminated with non-zero exit code: exit status {exit.code}",
        "details": {"causes": [{"reason": "ExitCode", "message": str(exit.code)}]},
    }


def failure(message: str) -> dict[str, object]:
    return {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": message, "code": 500}


async def execute(socket: web.WebSocketResponse, live: Live, command: Sequence[str], wanted: Wanted) -> None:
    """Run `command` beside the container, until it ends or the client leaves."""
    stdio = Stdio.create(tty=wanted.tty, stdin=wanted.stdin)
    try:
        execution = await start(live.parts, live.process, live.image, command, stdio)
    except InitError as error:
        await _finish(socket, failure(error.message))
        return
    try:
        exit = await _session(socket, stdio, execution.exited, wanted)
        if exit:
            await _finish(socket, status_of(exit))
    finally:
        await asyncio.shield(execution.finish())


async def _session(
    socket: web.WebSocketResponse, stdio: Stdio, exited: asyncio.Future[Exit], wanted: Wanted
) -> Exit | None:
    """Both directions until the process has ended and all is said; None when the client left before."""
    outputs = {STDERR if name == "stderr" else STDOUT: fd for name, fd in stdio.near.items() if name != "stdin"}
    incoming = asyncio.create_task(_take_input(socket, stdio, stdio.end_input))
    outgoing = [asyncio.create_task(_send_output(socket, channel, fd)) for channel, fd in outputs.items()]
    done = asyncio.gather(*outgoing, asyncio.shield(exited))
    try:
        await asyncio.wait((done, incoming), return_when=asyncio.FIRST_COMPLETED)
        if not done.done() and not incoming.cancelled():
            incoming.result()
            return None
        await done
        return exited.result()
    except ConnectionError:
        return None
    finally:
        for task in (incoming, *outgoing):
            task.cancel()
        done.cancel()
        await asyncio.gather(incoming, *outgoing, return_exceptions=True)


async def _take_input(socket: web.WebSocketResponse, stdio: Stdio, end_input: Callable[[], Awaitable[None]]) -> None:
    """Until the client closes the connection. `end_input`: what the end of its stdin shall do."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        if channel == STDIN:
            await _write_all(stdio, data)
        elif channel == RESIZE and "tty" in stdio.near:
            _resize(stdio.near["tty"], data)
        elif channel == CLOSE and data[:1] == bytes([STDIN]):
            await end_input()


def _resize(terminal: int, document: bytes) -> None:
    """A size that makes no sense changes nothing."""
    with contextlib.suppress(ValueError, msgspec.MsgspecError):
        size = msgspec.json.decode(document, type=_Size)
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size.height, size.width, 0, 0))


async def _write_all(stdio: Stdio, data: bytes) -> None:
    """A reader that is gone is no error: the process simply wants no more."""
    descriptor = stdio.near.get("stdin", stdio.near.get("tty"))
    while data and descriptor is not None:
        try:
            os.set_blocking(descriptor, False)
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:
            await _writable(descriptor)
        except OSError:
            return


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _send_output(socket: web.WebSocketResponse, channel: int, descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    os.set_blocking(descriptor, False)
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        loop.add_reader(descriptor, _set, ready)
        try:
            await ready
        finally:
            loop.remove_reader(descriptor)
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            continue
        except OSError:
            return  # EIO: the terminal's other side is closed
        if not data:
            return
        await socket.send_bytes(bytes([channel]) + data)


async def _finish(socket: web.WebSocketResponse, status: dict[str, object]) -> None:
    with contextlib.suppress(ConnectionError):
        await socket.send_bytes(bytes([STATUS]) + json.dumps(status).encode())
        await socket.close()


async def attach(socket: web.WebSocketResponse, live: Live, wanted: Wanted) -> None:
    """Listen to a running container and write to its stdin, until it ends or the client leaves.

    With `stdinOnce` the end of this session, or of its stdin, is the end of the container's.
    """
    once = wanted.stdin and bool(live.container.get("stdinOnce"))
    listener = live.log.listen()
    incoming = asyncio.create_task(_take_input(socket, live.stdio, live.end_input if once else _keep_open))
    outgoing = asyncio.create_task(_pass_on(socket, listener, wanted))
    try:
        await asyncio.wait((incoming, outgoing), return_when=asyncio.FIRST_COMPLETED)
        if listener.too_slow:
            await _finish(socket, failure("the client reads more slowly than the container writes"))
        elif outgoing.done() and live.exited.done():
            await _finish(socket, _SUCCESS)
    finally:
        live.log.unlisten(listener)
        for task in (incoming, outgoing):
            task.cancel()
        await asyncio.gather(incoming, outgoing, return_exceptions=True)
        if once:
            await live.end_input()


async def _keep_open() -> None:
    """Whoever attaches next may go on writing."""


async def _pass_on(socket: web.WebSocketResponse, listener: Listener, wanted: Wanted) -> None:
    """Until there is no more to hear."""
    while heard := await listener.queue.get():
        stream, data = heard
        if wanted.stderr if stream == "stderr" else wanted.stdout:
            await socket.send_bytes(bytes([STDERR if stream == "stderr" else STDOUT]) + data)


async def forward(socket: web.WebSocketResponse, pid: int, port: int) -> None:
    """One TCP connection to the loopback of the Pod whose namespaces `pid` holds, as a kubelet makes it: past capture,
    and to what listens nowhere else. What cannot be reached is a text message."""
    try:
        reader, writer = await _open_in_pod(pid, port)
    except OSError as error:
        await socket.send_str(f"cannot connect to port {port} of the Pod: {error.strerror or error}")
        await socket.close()
        return
    outgoing = asyncio.create_task(_from_pod(socket, reader))
    try:
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                writer.write(message.data)
                await writer.drain()
    except ConnectionError:
        return
    finally:
        outgoing.cancel()
        writer.close()
        await asyncio.gather(outgoing, return_exceptions=True)


async def _open_in_pod(pid: int, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    inside = await asyncio.to_thread(_socket_in_network_of, pid)
    try:
        await asyncio.get_running_loop().sock_connect(inside, ("127.0.0.1", port))
        return await asyncio.open_connection(sock=inside)
    except BaseException:
        inside.close()
        raise


def _socket_in_network_of(pid: int) -> sockets.socket:
    """A socket belongs to the network namespace that its thread is in when it is made, wherever it is used."""
    with Path("/proc/thread-self/ns/net").open("rb") as home, Path(f"/proc/{pid}/ns/net").open("rb") as there:
        setns(there.fileno())
        try:
            made = sockets.socket()
        finally:
            setns(home.fileno())
    made.setblocking(False)
    return made


async def _from_pod(socket: web.WebSocketResponse, reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            await socket.send_bytes(data)
    await socket.close()
