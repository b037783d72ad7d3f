"""A machine of one's own for each module: private home and state, and a shell in which a tutorial's lines are typed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import own_network

from .mesh import Mesh

own_network.enter()


LONGEST = ("test_reliability", "test_adversary", "test_encryption", "test_clean_up", "test_canary", "test_labs")
"""Begun first, so that none of them is what everything waits for in the end. Which comes next matters less."""


def pytest_configure(config: pytest.Config) -> None:
    own_network.configured(config)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


MIZZEN = (sys.executable, "-m", "mizzen.cli")
MARK = "@@done@@"


class Shell:
    """One bash that lives through a whole lab, so that exported variables and `cd` carry on."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.home = home
        self.environment = environment
        self.process = subprocess.Popen(
            ["bash", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=home,
            env=environment,
            start_new_session=True,
        )

    def run(self, line: str) -> tuple[int, str]:
        """Type a line (or several); its exit code and what it printed."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{line}\n__code=$?\necho\necho {MARK} $__code\n")
        self.process.stdin.flush()
        output: list[str] = []
        for text in self.process.stdout:
            if text.startswith(MARK):
                return int(text.split()[1]), "".join(output).strip()
            output.append(text)
        raise AssertionError(f"the shell ended during {line!r}: {''.join(output)}")

    def ok(self, line: str) -> str:
        """The same, and it must succeed."""
        code, output = self.run(line)
        assert code == 0, f"$ {line}\n{output}\n(exit {code})"
        return output

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(home: Path) -> dict[str, str]:
    """That of a user who has nothing but this home; what a test needs of one's own stays out."""
    own = {key: value for key, value in os.environ.items() if not key.startswith(("MIZZEN_", "KUBECONFIG", "XDG_"))}
    return own | {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture(scope="module")
def shell(home: Path, environment: dict[str, str]) -> Iterator[Shell]:
    if not shutil.which("bash"):
        pytest.skip("no bash on PATH")
    session = Shell(home, environment)
    try:
        yield session
    finally:
        session.close()
        subprocess.run([*MIZZEN, "cluster", "delete"], env=session.environment, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def mesh(shell: Shell, kubectl: str) -> Mesh:
    """A cluster with the demo profile; what comes into the namespace `default` is injected."""
    mesh = Mesh(shell.home, shell.environment)
    mesh.mizzen("up")
    mesh.kubectl("label", "namespace", "default", "istio-injection=enabled")
    return mesh


@pytest.fixture(scope="session")
def kubectl() -> str:
    found = shutil.which("kubectl")
    if not found:
        pytest.skip("no kubectl on PATH: the labs need the real one")
    if not shutil.which("curl"):
        pytest.skip("no curl on PATH: the labs call it")
    return found
