"""The node's connection to init: requests with replies, and events."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from mizzen.embedded.box.messages import (
    Inventory,
    Message,
    Process,
    Request,
    Running,
    Sandbox,
    close_all,
    receive,
    send,
)


class InitError(Exception):
    """Init refused, or failed. `reason` is NotFound, StartError … or the name of an errno."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class InitClient:
    """One connection. `on_event` gets what init tells of its own accord; `closed` is set when init hangs up."""

    def __init__(self, connection: socket.socket, on_event: Callable[[Message], None]) -> None:
        self.closed = asyncio.Event()
        self._socket = connection
        self._on_event = on_event
        self._numbers = itertools.count(1)
        # Init does one thing at a time; more requests in flight would only fill the socket.
        self._turns = asyncio.Semaphore(2)
        self._waiting: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        asyncio.get_running_loop().add_reader(connection.fileno(), self._readable)

    @classmethod
    async def connect(cls, path: Path, on_event: Callable[[Message], None]) -> InitClient:
        """Raises OSError when init does not listen."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().sock_connect(connection, str(path))
        except BaseException:
            connection.close()
            raise
        return cls(connection, on_event)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
        self.closed.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(InitError("Closed", "the connection to init is closed"))

    async def inventory(self) -> Inventory:
        reply, _ = await self._ask(Request(seq=next(self._numbers), op="list"))
        assert reply.inventory
        return reply.inventory

    async def create_sandbox(self, id: str, hostname: str, sysctls: dict[str, str], meta: dict[str, str]) -> Sandbox:
        seq = next(self._numbers)
        request = Request(seq=seq, op="create_sandbox", id=id, hostname=hostname, sysctls=sysctls, meta=meta)
        reply, _ = await self._ask(request)
        assert reply.sandbox
        return reply.sandbox

    async def remove_sandbox(self, id: str) -> None:
        """Returns at once; the event `sandbox_gone` follows."""
        await self._ask(Request(seq=next(self._numbers), op="remove_sandbox", id=id))

    async def run(self, process: Process, descriptors: Sequence[int]) -> Running:
        """`descriptors`: stdin, stdout, stderr and those to keep; they stay the caller's."""
        request = Request(seq=next(self._numbers), op="run", id=process.id, process=process)
        reply, _ = await self._ask(request, descriptors)
        assert reply.process
        return reply.process

    async def signal(self, id: str, number: int) -> None:
        await self._ask(Request(seq=next(self._numbers), op="signal", id=id, signal=number))

    async def forget(self, id: str) -> None:
        await self._ask(Request(seq=next(self._numbers), op="forget", id=id))

    async def adopt(self, id: str) -> list[int]:
        """The descriptors that init kept for process `id`, now the caller's too."""
        _, descriptors = await self._ask(Request(seq=next(self._numbers), op="adopt", id=id))
        return descriptors

    async def close_stream(self, id: str, stream: str) -> None:
        """Init lets go of this end of a stream of process `id`; ours stays open."""
        await self._ask(Request(seq=next(self._numbers), op="close", id=id, stream=stream))

    async def _ask(self, request: Request, descriptors: Sequence[int] = ()) -> tuple[Message, list[int]]:
        if self.closed.is_set():
            raise InitError("Closed", "the connection to init is closed")
        future = asyncio.get_running_loop().create_future()
        self._waiting[request.seq] = future
        try:
            async with self._turns:
                send(self._socket, request, descriptors)
                reply, attached = await future
        finally:
            self._waiting.pop(request.seq, None)
        if reply.error:
            raise InitError(reply.reason, reply.error)
        return reply, attached

    def _readable(self) -> None:
        """One message per call: the loop calls again while there are more."""
        try:
            received = receive(self._socket, Message)
        except BlockingIOError:
            return
        except OSError:
            received = None
        if received is None:
            self.close()
            return
        message, descriptors = received
        waiting = self._waiting.get(message.seq)
        if message.event:
            self._on_event(message)
        elif waiting and not waiting.done():
            waiting.set_result((message, descriptors))
        else:
            close_all(descriptors)
