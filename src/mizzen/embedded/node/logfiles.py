"""A container's log: files in the CRI format, `TIME STREAM P|F LINE`, rotated by size, read back by `kubectl logs`.

https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeAlias

ROTATE_AT = 10 << 20
KEPT_FILES = 2
LONGEST_LINE = 16 << 10
"""Longer lines are written in parts, all but the last marked P."""
_UNHEARD = 256
"""Pieces that may wait for somebody who listens; and those kept for whoever listens first."""

Heard: TypeAlias = tuple[str, bytes]
"""A stream's name and what was written to it."""


def stamp(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, UTC."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


class Lines:
    """Cuts one stream's bytes into lines of the log format."""

    def __init__(self, stream: str) -> None:
        self._stream = stream.encode()
        self._rest = b""

    def feed(self, data: bytes, now: str) -> bytes:
        """The complete lines so far, formatted."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        result = self._formatted(lines, now)
        while len(self._rest) >= LONGEST_LINE:
            result += self._line(b"P", self._rest[:LONGEST_LINE], now)
            self._rest = self._rest[LONGEST_LINE:]
        return result

    def _formatted(self, lines: list[bytes], now: str) -> bytes:
        """At once where no line is long: a proxy that logs every request sends thousands in one piece."""
        if max(map(len, lines), default=0) > LONGEST_LINE:
            return b"".join(self._parts(line, now) for line in lines)
        start = self._line(b"F", b"", now)[:-1]
        return start + (b"\n" + start).join(lines) + b"\n" if lines else b""

    def end(self, now: str) -> bytes:
        """The last line, if it had no end."""
        rest, self._rest = self._rest, b""
        return self._parts(rest, now) if rest else b""

    def _parts(self, line: bytes, now: str) -> bytes:
        cuts = range(max(len(line) - 1, 0) // LONGEST_LINE + 1)
        parts = [line[cut * LONGEST_LINE : (cut + 1) * LONGEST_LINE] for cut in cuts]
        marked = [*((b"P", part) for part in parts[:-1]), (b"F", parts[-1])]
        return b"".join(self._line(mark, part, now) for mark, part in marked)

    def _line(self, mark: bytes, line: bytes, now: str) -> bytes:
        return b"%b %b %b %b\n" % (now.encode(), self._stream, mark, line)


class Listener:
    """Hears what a container writes, as it comes; `None` is the end, of the run or of what this listener could take."""

    def __init__(self, heard: Iterable[Heard] = ()) -> None:
        self.queue: asyncio.Queue[Heard | None] = asyncio.Queue()
        self.too_slow = False
        for each in heard:
            self.queue.put_nowait(each)

    def hear(self, stream: str, data: bytes) -> None:
        if self.queue.qsize() >= _UNHEARD:
            self.too_slow = True
            self.queue.put_nowait(None)
        elif not self.too_slow:
            self.queue.put_nowait((stream, data))


class LogFile:
    """The log of one run of a container, being written. With `keep`, who listens first hears it from the beginning."""

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self.path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._lines = {stream: Lines(stream) for stream in ("stdout", "stderr")}
        self._listeners: list[Listener] = []
        self._beginning: deque[Heard] | None = deque(maxlen=_UNHEARD // 2) if keep else None
        self.news = asyncio.Event()
        """Set when something was written or the log was closed; each time a new one takes its place."""
        self.closed = False

    def write(self, stream: str, data: bytes) -> None:
        """What the container wrote to `stdout` or `stderr`; empty data is its end."""
        lines, now = self._lines[stream], stamp(time.time_ns())
        self._append(lines.feed(data, now) if data else lines.end(now))
        if data and self._beginning is not None:
            self._beginning.append((stream, data))
        for listener in self._listeners if data else ():
            listener.hear(stream, data)

    def listen(self) -> Listener:
        """Everything from now on, until `unlisten`."""
        listener = Listener(self._beginning or ())
        self._beginning = None
        self._listeners.append(listener)
        return listener

    def unlisten(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._file.close()
            self._wake()
            for listener in self._listeners:
                listener.queue.put_nowait(None)

    def _append(self, content: bytes) -> None:
        if not content or self.closed:
            return
        self._file.write(content)
        if self._file.tell() > ROTATE_AT:
            self._rotate()
        self._wake()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(KEPT_FILES - 1, 0, -1):
            older = self._rotated(number)
            if older.exists():
                older.replace(self._rotated(number + 1))
        self.path.replace(self._rotated(1))
        self._file = self.path.open("ab", buffering=0)

    def _rotated(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _wake(self) -> None:
        news, self.news = self.news, asyncio.Event()
        news.set()


@dataclass(frozen=True, slots=True)
class LogQuery:
    """What `kubectl logs` asks for. `since` in nanoseconds since the epoch."""

    follow: bool = False
    tail: int | None = None
    since: int | None = None
    timestamps: bool = False
    limit: int | None = None


@dataclass(slots=True)
class LogReader:
    """Turns log lines back into what the container wrote."""

    query: LogQuery
    _since: str = field(init=False, default="")
    _sent: int = 0
    _line_open: bool = False

    def __post_init__(self) -> None:
        if self.query.since is not None:
            self._since = stamp(self.query.since)

    @property
    def full(self) -> bool:
        return self.query.limit is not None and self._sent >= self.query.limit

    def text(self, line: bytes) -> bytes:
        """What the reader of the log shall see of this line; empty if it is too old or the limit is reached."""
        time_text, _, rest = line.partition(b" ")
        _, _, rest = rest.partition(b" ")
        mark, _, content = rest.partition(b" ")
        if self.full or time_text.decode() < self._since:
            return b""
        prefix = time_text + b" " if self.query.timestamps and not self._line_open else b""
        self._line_open = mark == b"P"
        result = prefix + content.rstrip(b"\n") + (b"" if self._line_open else b"\n")
        if self.query.limit is not None:
            result = result[: self.query.limit - self._sent]
        self._sent += len(result)
        return result


def present_lines(path: Path, tail: int | None) -> Iterator[bytes]:
    """The lines there are, rotated files first; with `tail` only the last so many whole lines."""
    lines = (line for file in _files(path) for line in _lines_of(file))
    if tail is None:
        return lines
    return iter(deque(lines, maxlen=tail)) if tail else iter(())


def _files(path: Path) -> list[Path]:
    """Those of the log that exist, the oldest first."""
    rotated = [path.with_name(f"{path.name}.{number}") for number in range(KEPT_FILES, 0, -1)]
    return [file for file in (*rotated, path) if file.exists()]


def _is_at(path: Path, file: BinaryIO) -> bool:
    return path.stat().st_ino == os.fstat(file.fileno()).st_ino


def _successor(file: BinaryIO, path: Path) -> Path:
    """The file that was written after `file`; the oldest one if `file` has been removed."""
    files = _files(path)
    place = next((number for number, each in enumerate(files) if _is_at(each, file)), -1)
    return files[min(place + 1, len(files) - 1)]


def _lines_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


async def read(path: Path, live: LogFile | None, query: LogQuery) -> AsyncIterator[bytes]:
    """The log as text, in chunks; with `follow` until the run of the container ends (`live` is closed)."""
    reader = LogReader(query)
    with path.open("rb") as file:
        start = file.seek(0, 2)
        chunk = b"".join(reader.text(line) for line in present_lines(path, query.tail))
        if chunk:
            yield chunk
        if not query.follow or live is None:
            return
        async for line in _followed(file, path, start, live):
            if text := reader.text(line):
                yield text
            if reader.full:
                return


async def _followed(file: BinaryIO, path: Path, position: int, live: LogFile) -> AsyncIterator[bytes]:
    """Lines written after `position`. A rotation is noticed by the file at `path` being another.

    Who reads slowly may be several files behind; what has been removed meanwhile is lost to them.
    """
    rest = b""
    with contextlib.ExitStack() as later_file:
        file.seek(position)
        while True:
            news, over = live.news, live.closed
            # Asked before reading: a file that has been rotated away gets no more lines.
            rotated = not _is_at(path, file)
            *lines, rest = (rest + file.read()).split(b"\n")
            for line in lines:
                yield line + b"\n"
            if rotated:
                successor = _successor(file, path)
                later_file.close()
                file = later_file.enter_context(successor.open("rb"))
            elif over:
                return
            else:
                await news.wait()
