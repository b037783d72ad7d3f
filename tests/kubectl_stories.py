"""Stories of kubectl commands: what is typed, and what must come of it.

A story file is a list of stories: `story` (its name), `steps`, and optionally `files` (name: content, in the working
folder), `config` (what it creates outside its namespace, deleted after it) and `needs: node`. A step:

    run: the words after `kubectl`, in shell quoting; $NS is the story's namespace
    given: standard input        editor: the command that $EDITOR is
    code: expected exit code (0)
    out: all of standard output, runs of blanks counted as one
    err: part of standard error   has / lacks: parts of standard output, one or a list
    from: the first client minor this holds for           to: the last
    soon: true if it need not hold at once
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mizzen.kube.api import WELL_KNOWN, NotFound
from mizzen.kube.http import HttpApi

STEP_KEYS = frozenset({"run", "given", "editor", "code", "out", "err", "has", "lacks", "from", "to", "soon"})
SOON_SECONDS = 30.0


@dataclass(frozen=True)
class Story:
    name: str
    steps: list[dict[str, Any]]
    files: dict[str, str] = field(default_factory=dict)
    config: list[str] = field(default_factory=list)
    needs: str = ""


def load(folder: Path) -> Iterator[Story]:
    """The stories of every file in `folder`."""
    for path in sorted(folder.glob("*.yaml")):
        for each in yaml.safe_load(path.read_text()):
            for step in each["steps"]:
                assert "run" in step and set(step) <= STEP_KEYS, f"{path.name}: {step}"
            name = f"{path.stem}-{each.pop('story')}"
            yield Story(name, **each)


@dataclass(frozen=True)
class Client:
    """One kubectl. `minor` is what it says of itself."""

    path: str
    minor: int

    def __str__(self) -> str:
        return f"1.{self.minor}"


def clients() -> list[Client]:
    """MIZZEN_KUBECTLS (paths, separated by colons), or every kubectl and kubectl.1.NN on PATH."""
    if named := os.environ.get("MIZZEN_KUBECTLS"):
        paths = named.split(os.pathsep)
    else:
        folders = [Path(each) for each in os.environ.get("PATH", "").split(os.pathsep) if each]
        versioned = [str(each) for folder in folders for each in sorted(folder.glob("kubectl.1.[0-9]*"))]
        paths = [*versioned, *filter(None, [shutil.which("kubectl")])]
    found: dict[int, Client] = {}
    for path in paths:
        minor = _minor(path)
        found.setdefault(minor, Client(path, minor))
    return [found[minor] for minor in sorted(found)]


def _minor(path: str) -> int:
    environment = {**os.environ, "KUBECONFIG": os.devnull}
    said = subprocess.run([path, "version", "--client"], env=environment, capture_output=True, text=True, timeout=60)
    version = re.search(r"Client Version:.*?v?1\.(\d+)", said.stdout) or re.search(r'Minor:"(\d+)', said.stdout)
    assert version, f"{path} does not tell its version: {said.stdout}{said.stderr}"
    return int(version[1])


@dataclass(frozen=True)
class Stage:
    """Where a story is played: a client, its home, a kubeconfig without namespace, and a folder for the files."""

    client: Client
    home: Path
    kubeconfig: Path
    folder: Path
    namespace: str

    def kubectl(self, words: list[str], given: str = "", editor: str = "") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "HOME": str(self.home), "KUBECONFIG": str(self.folder / "kubeconfig")}
        environment |= {"KUBE_EDITOR": editor, "KUBECTL_EXTERNAL_DIFF": "diff -u -N"}
        return subprocess.run(
            [self.client.path, *words],
            input=given,
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def play(self, story: Story) -> None:
        self._set(story)
        try:
            for step in story.steps:
                if step.get("from", 0) <= self.client.minor <= step.get("to", 99):
                    self._step(step)
        finally:
            self._strike(story)

    def _set(self, story: Story) -> None:
        config = yaml.safe_load(self.kubeconfig.read_text())
        for context in config["contexts"]:
            context["context"]["namespace"] = self.namespace
        (self.folder / "kubeconfig").write_text(yaml.safe_dump(config))
        for name, content in story.files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(self._document(content))
        asyncio.run(self._create_namespace())

    def _strike(self, story: Story) -> None:
        words = [self._told(each) for each in story.config]
        if words:
            self.kubectl(["delete", "--ignore-not-found", "--wait=false", *words])
        asyncio.run(self._delete_namespace())

    async def _create_namespace(self) -> None:
        async with HttpApi.from_kubeconfig(self.kubeconfig) as api:
            await api.create(WELL_KNOWN.namespaces, {"metadata": {"name": self.namespace}})

    async def _delete_namespace(self) -> None:
        async with HttpApi.from_kubeconfig(self.kubeconfig) as api:
            with contextlib.suppress(NotFound):
                await api.delete(WELL_KNOWN.namespaces, self.namespace)

    def _told(self, text: str) -> str:
        return str(text).replace("$NS", self.namespace)

    def _document(self, text: str) -> str:
        """Older clients take a text that begins with a brace for JSON."""
        return ("---\n" if text.startswith("{") else "") + self._told(text)

    def _step(self, step: dict[str, Any]) -> None:
        deadline = time.monotonic() + (SOON_SECONDS if step.get("soon") else 0)
        words = shlex.split(self._told(step["run"]))
        while True:
            done = self.kubectl(words, self._document(step.get("given", "")), step.get("editor", ""))
            wrong = self._judge(step, done)
            if not wrong:
                return
            if time.monotonic() >= deadline:
                raise AssertionError(
                    f"$ kubectl {step['run']}\n{done.stdout}{done.stderr}(exit {done.returncode})\n{wrong}"
                )
            time.sleep(0.1)

    def _judge(self, step: dict[str, Any], done: subprocess.CompletedProcess[str]) -> str:
        """What is not as expected; "" if all is."""
        if done.returncode != step.get("code", 0):
            return f"expected exit code {step.get('code', 0)}"
        out = _plain(done.stdout)
        if "out" in step and out != _plain(self._told(str(step["out"]))):
            return f"expected output:\n{step['out']}"
        if "err" in step and _plain(self._told(step["err"])) not in _plain(done.stderr):
            return f"expected among the errors:\n{step['err']}"
        for part in _parts(step, "has"):
            if _plain(self._told(part)) not in out:
                return f"expected in the output:\n{part}"
        for part in _parts(step, "lacks"):
            if _plain(self._told(part)) in out:
                return f"not expected in the output:\n{part}"
        return ""


def _parts(step: dict[str, Any], key: str) -> list[str]:
    found = step.get(key, [])
    return [str(each) for each in found] if isinstance(found, list) else [str(found)]


def _plain(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.strip().splitlines())
