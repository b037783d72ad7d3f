"""Limits that a real kernel keeps, by cgroup v2 or v1, whichever this machine has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mizzen.embedded.box.cgroups import Group, Hierarchy, Limits, hierarchy

pytestmark = [pytest.mark.process, pytest.mark.root]


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Hierarchy]:
    found = hierarchy(tmp_path)
    if found is None or os.geteuid() != 0:
        pytest.skip("no cgroup is writable here")
    yield found
    found.remove()
    assert not any(folder.exists() for folder in found.folders.values())


def ended(group: Group, script: str) -> tuple[int, float]:
    """How Python ended that ran this inside of the group, and the processor seconds it used."""
    entering = "import sys\nfor entrance in sys.argv[1:]:\n    open(entrance, 'w').write('0')\n"
    before = os.times()
    done = subprocess.run([sys.executable, "-S", "-c", entering + script, *group.entrances])
    after = os.times()
    return done.returncode, after.children_user - before.children_user


def kills(group: Group) -> int:
    lines = Path(group.oom_file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def test_who_takes_too_much_memory_is_killed_and_it_is_counted(groups: Hierarchy) -> None:
    group = groups.make("pod/eater/0", Limits(memory=50 << 20))
    assert kills(group) == 0
    assert ended(group, "x = 'x' * 200_000_000")[0] == -signal.SIGKILL
    assert kills(group) >= 1
    assert ended(groups.make("pod/modest/0", Limits(memory=50 << 20)), "x = 'x' * 1_000_000")[0] == 0


def test_processor_time_is_shared_out(groups: Hierarchy) -> None:
    spin = "import time\nend = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
    code, used = ended(groups.make("pod/busy/0", Limits(cpu=0.1)), spin)
    assert code == 0 and used < 0.5
