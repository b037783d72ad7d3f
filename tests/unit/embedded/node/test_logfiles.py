"""Logs: the format on disk, and what `kubectl logs` makes of it."""

import asyncio

from mizzen.embedded.node import logfiles
from mizzen.embedded.node.logfiles import Lines, LogFile, LogQuery, LogReader, read, stamp

T = "2026-01-01T00:00:00.000000000Z"


def test_stamps_have_nanoseconds():
    assert stamp(1_767_225_600_000_000_007) == "2026-01-01T00:00:00.000000007Z"


def test_lines_are_cut_and_the_last_may_be_open():
    lines = Lines("stdout")
    assert lines.feed(b"a\nb", T) == f"{T} stdout F a\n".encode()
    assert lines.feed(b"c\n", T) == f"{T} stdout F bc\n".encode()
    assert lines.feed(b"open", T) == b""
    assert lines.end(T) == f"{T} stdout F open\n".encode()
    assert lines.end(T) == b""


def test_long_lines_come_back_whole():
    lines, reader = Lines("stderr"), LogReader(LogQuery())
    long = b"x" * (logfiles.LONGEST_LINE * 2 + 5)
    written = lines.feed(long[:100], T) + lines.feed(long[100:] + b"\nnext\n", T)
    assert b" P " in written
    assert b"".join(reader.text(line + b"\n") for line in written.splitlines()) == long + b"\nnext\n"


async def collected(path, live, **query):
    return b"".join([chunk async for chunk in read(path, live, LogQuery(**query))])


async def test_reading(tmp_path):
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"one\ntwo\nthree\n")
    log.write("stderr", b"four\n")
    path = log.path
    assert await collected(path, log) == b"one\ntwo\nthree\nfour\n"
    assert await collected(path, log, tail=2) == b"three\nfour\n"
    assert await collected(path, log, tail=0) == b""
    assert await collected(path, log, limit=5) == b"one\nt"
    assert (await collected(path, log, timestamps=True)).startswith(b"20")
    assert await collected(path, log, since=4_000_000_000 * 10**9) == b""
    log.close()


async def test_following_until_the_end(tmp_path):
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"old\n")
    reading = asyncio.create_task(collected(log.path, log, follow=True))
    await asyncio.sleep(0.01)
    log.write("stdout", b"new\n")
    await asyncio.sleep(0.01)
    log.write("stdout", b"unfinished")
    log.write("stdout", b"")
    log.close()
    assert await asyncio.wait_for(reading, 2) == b"old\nnew\nunfinished\n"


async def test_rotation_loses_nothing_for_followers(tmp_path, monkeypatch):
    monkeypatch.setattr(logfiles, "ROTATE_AT", 200)
    log = LogFile(tmp_path / "0.log")
    reading = asyncio.create_task(collected(log.path, log, follow=True))
    lines = [f"line {number}\n".encode() for number in range(20)]
    for line in lines:
        log.write("stdout", line)
        await asyncio.sleep(0.005)
    log.close()
    assert await asyncio.wait_for(reading, 2) == b"".join(lines)
    assert (tmp_path / "0.log.1").exists() and not (tmp_path / f"0.log.{logfiles.KEPT_FILES + 1}").exists()


async def test_who_follows_slowly_misses_no_file_that_is_still_there(tmp_path, monkeypatch):
    monkeypatch.setattr(logfiles, "ROTATE_AT", 200)
    log = LogFile(tmp_path / "0.log")
    log.write("stdout", b"first\n")
    chunks = read(log.path, log, LogQuery(follow=True))
    assert await anext(chunks) == b"first\n"
    lines = [f"line {number}\n".encode() for number in range(9)]
    for line in lines:
        log.write("stdout", line)
    log.close()
    assert (tmp_path / "0.log.2").exists(), "it was rotated twice while nobody read on"
    assert b"".join([chunk async for chunk in chunks]) == b"".join(lines)
