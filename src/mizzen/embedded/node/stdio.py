"""A container's standard streams: pipes or a terminal. The node reads the near ends; init keeps them as well."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
from collections.abc import Sequence
from dataclasses import dataclass, field

from mizzen.embedded.node.logfiles import LogFile

_CHUNK = 65536
_END_OF_TYPING = b"\x04\x04"


@dataclass(slots=True)
class Stdio:
    """`near`: our ends by name: "stdin", "stdout", "stderr", or "tty". `far`: the process's 0, 1 and 2."""

    near: dict[str, int]
    far: Sequence[int] = ()
    _open_outputs: int = 0
    _done: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def create(cls, *, tty: bool, stdin: bool) -> Stdio:
        """Fresh streams; without `stdin` the process reads nothing."""
        if tty:
            master, slave = pty.openpty()
            os.set_inheritable(master, False)
            return cls({"tty": master}, (slave, os.dup(slave), os.dup(slave)))
        near: dict[str, int] = {}
        if stdin:
            reader, near["stdin"] = os.pipe2(os.O_CLOEXEC)
        else:
            reader = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        near["stdout"], out = os.pipe2(os.O_CLOEXEC)
        near["stderr"], err = os.pipe2(os.O_CLOEXEC)
        return cls(near, (reader, out, err))

    @classmethod
    def adopted(cls, names: Sequence[str], descriptors: Sequence[int]) -> Stdio:
        """The near ends that init kept."""
        return cls(dict(zip(names, descriptors, strict=True)))

    def sent(self) -> None:
        """The far ends are the process's now."""
        for descriptor in self.far:
            os.close(descriptor)
        self.far = ()

    def pump_into(self, log: LogFile) -> None:
        """Copy all output into the log until its end."""
        outputs = {name: fd for name, fd in self.near.items() if name != "stdin"}
        self._open_outputs = len(outputs)
        for name, descriptor in outputs.items():
            os.set_blocking(descriptor, False)
            asyncio.get_running_loop().add_reader(descriptor, self._readable, name, descriptor, log)

    async def drained(self, limit: float) -> None:
        """Wait for the end of all output, at most `limit` seconds: a grandchild may hold a pipe for ever."""
        if self._open_outputs:
            try:
                async with asyncio.timeout(limit):
                    await self._done.wait()
            except TimeoutError:
                return

    def close(self) -> None:
        self.sent()
        for name in list(self.near):
            self.close_near(name)

    def close_near(self, name: str) -> None:
        descriptor = self.near.pop(name, None)
        if descriptor is not None:
            asyncio.get_running_loop().remove_reader(descriptor)
            os.close(descriptor)

    async def end_input(self) -> None:
        """The process reads no more than it was given. On a terminal this is what Ctrl-D is; twice, as one typed in the
        middle of a line only ends the line."""
        self.close_near("stdin")
        if "tty" in self.near:
            with contextlib.suppress(OSError):
                os.write(self.near["tty"], _END_OF_TYPING)

    def _readable(self, name: str, descriptor: int, log: LogFile) -> None:
        stream = "stderr" if name == "stderr" else "stdout"
        try:
            data = os.read(descriptor, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: nobody has the terminal's other side open any more
        log.write(stream, data)
        if not data:
            self.close_near(name)
            self._open_outputs -= 1
            if self._open_outputs <= 0:
                self._done.set()
