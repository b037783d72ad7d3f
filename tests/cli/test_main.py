"""The command line beneath its verbs: what is loaded, Go's flags, completion, failures in words."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mizzen.cli.arguments import normal
from mizzen.cli.cluster import start_cluster
from mizzen.cli.doctor import command as doctor_command
from mizzen.cli.exits import Failure
from mizzen.cli.failures import failure_of
from mizzen.cli.main import VERBS, run
from mizzen.embedded import doctor
from mizzen.kube.api import ApiError, NotFound, Unreachable

HEAVY = {"asyncio", "aiohttp", "grpc", "msgspec", "yaml", "mizzen.kube", "mizzen.api", "mizzen.embedded"}


def loaded(tmp_path: Path, *arguments: str, **environment: str) -> tuple[set[str], str]:
    """Modules that a fresh `mizzen` imports, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mizzen.cli", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), **environment},
        timeout=30,
    )
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}, done.stdout


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    modules, printed = loaded(tmp_path, "--help")
    assert "click" in modules
    assert "proxy-status" in printed
    assert not HEAVY & modules


@pytest.mark.parametrize("words", [("ip",), ("cluster", "status")])
def test_who_reads_a_record_loads_nothing_that_talks(tmp_path: Path, words: tuple[str, ...]) -> None:
    modules, _ = loaded(tmp_path, *words)
    assert "mizzen.embedded.clusters" in modules
    assert not {"aiohttp", "cryptography.x509", "pyroute2.netlink", "asyncio", "yaml"} & modules


def test_completion_loads_nothing_heavy(tmp_path: Path) -> None:
    modules, printed = loaded(tmp_path, COMP_WORDS="mizzen pr", COMP_CWORD="1", _MIZZEN_COMPLETE="bash_complete")
    assert printed.split() == ["plain,proxy-status", "plain,proxy-config"]
    assert not HEAVY & modules


def test_completion_of_a_verb_inside_a_verb(tmp_path: Path) -> None:
    _, printed = loaded(tmp_path, COMP_WORDS="mizzen pc r", COMP_CWORD="2", _MIZZEN_COMPLETE="zsh_complete")
    assert printed.splitlines()[:2] == ["plain", "route"]


@pytest.mark.parametrize("name", sorted({verb.module for verb in VERBS.values()}))
def test_every_verb_is_a_command_with_help(name: str) -> None:
    command = import_module(f"mizzen.cli.{name}").command
    assert isinstance(command, click.Command)
    assert command.help


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("--browser=false", ["--no-browser"]),
        ("--remote=true", ["--remote"]),
        ("--purge=false", []),
        ("-o=json", ["-o", "json"]),
        ("--set=meshConfig.enableTracing=false", ["--set=meshConfig.enableTracing=false"]),
        ("--fqdn=true", ["--fqdn=true"]),
    ],
)
def test_flags_as_istioctl_takes_them(typed: str, read: list[str]) -> None:
    assert list(normal([typed])) == read


def test_what_follows_two_dashes_stays() -> None:
    assert list(normal(["--", "-o=json"])) == ["--", "-o=json"]


@pytest.mark.parametrize(
    ("error", "words", "hint"),
    [
        (Unreachable(0, "Unreachable", "refused"), "does not answer", "mizzen up"),
        (ApiError(403, "Forbidden", 'pods is forbidden: User "x"'), "is forbidden", "cluster-admin"),
        (NotFound(404, "NotFound", "no istiod is ready"), "no istiod is ready", "mizzen status"),
        (RuntimeError("boom"), "RuntimeError: boom", "bug"),
    ],
)
def test_failures_say_what_and_what_next(error: Exception, words: str, hint: str) -> None:
    failure = failure_of(error)
    assert words in failure.message
    assert hint in failure.hint


def interrupted() -> None:
    raise KeyboardInterrupt


def broken() -> None:
    raise RuntimeError("boom")


def test_ctrl_c_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("mizzen.cli.ip.command.callback", lambda **_: interrupted())
    assert run(["ip"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_traceback_only_with_debug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("mizzen.cli.ip.command.callback", lambda **_: broken())
    assert run(["ip"]) == 1
    assert "Traceback" not in capsys.readouterr().err
    with pytest.raises(RuntimeError):
        run(["ip", "--debug"])


def test_what_will_not_hold_is_told_when_a_cluster_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = doctor.Finding(check="isolation of Pods", ok=True, detail="frames are filtered", cure="do it", warning=True)
    lacking = doctor.Finding(check="envoy", ok=False, detail="there is none", cure="pip install it")
    monkeypatch.setattr(doctor, "examine", lambda name: [weak, lacking])
    with pytest.raises(Failure, match="envoy: there is none"):
        start_cluster("never-started")
    assert capsys.readouterr().err == "Warning: isolation of Pods: frames are filtered\n    do it\n"
    outcome = CliRunner().invoke(doctor_command, [])
    assert outcome.output.startswith("! isolation of Pods: frames are filtered\n    do it\n✘ envoy")
    assert outcome.exit_code == 1
