"""`kill -9` in the middle of writes: nothing that was acknowledged is lost, and nothing half-written is seen.

`MIZZEN_CRASHES=200` kills as often; the default is what every run of the suite can afford.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mizzen.embedded.apiserver.store import Store

ROUNDS = int(os.environ.get("MIZZEN_CRASHES", "12"))
WRITER = """
import asyncio, os, sys
from pathlib import Path
from mizzen.embedded.apiserver.store import Store
from mizzen.embedded.apiserver.store_entries import Key

async def write(store, worker, prefix):
    number = 0
    while True:
        name = f"{prefix}-{worker}-{number}"
        document = {"apiVersion": "v1", "metadata": {"name": name, "uid": name}, "data": {"x": name * 50}}
        entry = await store.put(Key("things", "n", name), document, None)
        if number % 3 == 0:
            await store.delete(entry)
            os.write(1, f"- {name}\\n".encode())
        else:
            os.write(1, f"+ {name}\\n".encode())
        number += 1

async def main():
    store = Store(Path(sys.argv[1]))
    await asyncio.gather(*(write(store, worker, sys.argv[2]) for worker in range(8)))

asyncio.run(main())
"""


def crash(path: Path, prefix: str, after: float) -> list[str]:
    """What one writer acknowledged before it was killed."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), prefix], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    first = writer.stdout.readline()
    time.sleep(after)
    writer.kill()
    rest = writer.stdout.read()
    writer.stdout.close()
    writer.wait()
    lines = (first + rest).decode().split("\n")
    return lines[:-1]  # what follows the last newline was cut off


async def check(path: Path, kept: set[str], removed: set[str]) -> int:
    store = Store(path)
    present = {entry.key.name: entry for entry in store.entries("things", "n")}
    for entry in present.values():
        assert json.loads(entry.raw)["data"]["x"] == entry.key.name * 50
    revision = store.revision
    assert all(entry.revision <= revision for entry in present.values())
    told = store.subscribe("things", "n", store.oldest).pending
    assert [each.revision for each in told] == sorted({each.revision for each in told})
    past = {entry.key: entry for entry in store.at(store.oldest, "things", "n").entries()}
    for event in told:
        before = past.pop(event.entry.key, None)
        assert (event.previous and event.previous.raw) == (before and before.raw)
        if event.type != "DELETED":
            past[event.entry.key] = event.entry
    assert past == {entry.key: entry for entry in present.values()}, "the past leads to the present"
    await store.close()
    assert kept <= present.keys()
    assert not removed & present.keys()
    return revision


@pytest.mark.process
def test_acknowledged_writes_survive_kill_9(tmp_path: Path) -> None:
    path, chance = tmp_path / "store.db", random.Random(7)
    kept: set[str] = set()
    removed: set[str] = set()
    last = 0
    for number in range(ROUNDS):
        lines = crash(path, f"r{number}", chance.uniform(0.0, 0.08))
        kept |= {line[2:] for line in lines if line.startswith("+")}
        removed |= {line[2:] for line in lines if line.startswith("-")}
        revision = asyncio.run(check(path, kept, removed))
        assert revision > last, "revisions are never used twice"
        last = revision
    assert len(kept) > ROUNDS
