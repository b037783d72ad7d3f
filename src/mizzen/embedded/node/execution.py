"""Running one more process beside a container's: probes, hooks, `kubectl exec`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from mizzen.embedded.box.messages import Exit, Process
from mizzen.embedded.images import Function, Image
from mizzen.embedded.node.container import TERMINAL
from mizzen.embedded.node.init_client import InitError
from mizzen.embedded.node.parts import Parts, unique
from mizzen.embedded.node.stdio import Stdio

_OUTPUT_LIMIT = 10 << 10
_NO_OWNERS = {"TAR_OPTIONS": "--no-same-owner"}
"""`kubectl cp` unpacks with tar, which as root gives files to their owners; where there is a single user, it cannot."""


@dataclass(slots=True)
class Execution:
    """A process that was started beside a container; whoever has it must `finish` it."""

    id: str
    parts: Parts
    stdio: Stdio
    exited: asyncio.Future[Exit]

    async def finish(self) -> None:
        """End it if it still runs, and let init forget it."""
        self.stdio.close()
        with contextlib.suppress(InitError):
            if not self.exited.done():
                await self.parts.init.signal(self.id, signal.SIGKILL)
                await asyncio.shield(self.exited)
            await self.parts.init.forget(self.id)
        self.parts.exits.drop(self.id)


async def execute(
    parts: Parts, container: Process, image: Image | None, argv: Sequence[str], stdio: Stdio
) -> Execution:
    """Start `argv` in the root of the running `container`. Raises InitError; the streams are closed then."""
    function = image.commands.get(argv[0], "") if isinstance(image, Function) else ""
    tty = "tty" in stdio.near
    process = msgspec.structs.replace(
        container,
        id=unique(container.id),
        join=container.id,
        argv=list(argv),
        function=function,
        env={
            **(TERMINAL if tty else {}),
            **container.env,
            **(_NO_OWNERS if parts.single_user and argv[0] == "tar" else {}),
        },
        tty=tty,
        mounts=[],
        kept=[],
        meta={"exec_of": container.id},
    )
    exited = parts.exits.expect(process.id)
    try:
        await parts.init.run(process, stdio.far)
    except BaseException:
        parts.exits.drop(process.id)
        stdio.close()
        raise
    stdio.sent()
    return Execution(process.id, parts, stdio, exited)


async def end_stray(parts: Parts, id: str) -> None:
    """End a process whose requester, an earlier node, is gone."""
    exited = parts.exits.expect(id)
    with contextlib.suppress(InitError):  # it may have ended by itself meanwhile
        await parts.init.signal(id, signal.SIGKILL)
        await exited
        await parts.init.forget(id)
    parts.exits.drop(id)


async def run_briefly(
    parts: Parts, container: Process, image: Image | None, argv: Sequence[str], limit: float
) -> tuple[int, str]:
    """Run a command to its end; exit code and output. Raises TimeoutError; then the command is killed."""
    stdio = Stdio.create(tty=False, stdin=False)
    try:
        execution = await execute(parts, container, image, argv, stdio)
    except InitError as error:
        return 126, error.message
    try:
        async with asyncio.timeout(limit):
            output = await _output(stdio)
            return (await asyncio.shield(execution.exited)).code, output
    finally:
        await asyncio.shield(execution.finish())


async def _output(stdio: Stdio) -> str:
    """Both streams together, as they come, up to a limit; what is beyond is read and dropped."""
    collected = bytearray()
    await asyncio.gather(*(_collect(fd, collected) for name, fd in stdio.near.items() if name != "stdin"))
    return collected.decode(errors="replace")


async def _collect(descriptor: int, into: bytearray) -> None:
    loop = asyncio.get_running_loop()
    end: asyncio.Future[None] = loop.create_future()
    os.set_blocking(descriptor, False)

    def readable() -> None:
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            into.extend(data[: _OUTPUT_LIMIT - len(into)])
        elif not end.done():
            end.set_result(None)

    loop.add_reader(descriptor, readable)
    try:
        await end
    finally:
        loop.remove_reader(descriptor)
