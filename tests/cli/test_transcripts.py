"""What a person sees: every `$ mizzen …` of the transcripts is typed, in process, and must print what stands below it.

`…` in an expected line stands for anything; a line of only `…` for any number of lines. Output and errors are one
stream, as on a terminal; an exit code other than 0 is the last line. To write down new behaviour, run with
UPDATE_TRANSCRIPTS=1 and read the difference.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mizzen.cli.main import run

HERE = Path(__file__).parent
TRANSCRIPTS = sorted((HERE / "transcripts").glob("*.txt"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a cluster; the current folder holds tests/cli/files."""
    for name in [name for name in os.environ if name.startswith(("MIZZEN", "KUBE", "XDG_", "NO_COLOR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")
    work = tmp_path / "work"
    shutil.copytree(HERE / "files", work)
    monkeypatch.chdir(work)
    return work


def typed(line: str) -> tuple[int, str]:
    """Exit code and output of one command line, which may end in `< FILE`."""
    words = shlex.split(line)
    given = b""
    if "<" in words:
        words, file = words[: words.index("<")], words[-1]
        given = Path(file).read_bytes()
    assert words[0] == "mizzen"
    screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    keyboard, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO(given), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
            code = run(words[1:])
    finally:
        sys.stdin = keyboard
    screen.flush()
    return code, screen.buffer.getvalue().decode()  # type: ignore[attr-defined]


def scenes(text: str) -> Iterator[tuple[str, str]]:
    """(command line, expected output) in order; lines before the first command are remarks."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = part.partition("\n")
        yield line, expected.rstrip()


def shown(code: int, output: str) -> str:
    output = "\n".join(line.rstrip() for line in output.splitlines()).rstrip()
    return f"{output}\n(exit code {code})".lstrip() if code else output


def pattern(expected: str) -> str:
    lines = [
        r"(?:.*\n)*?" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + "\n"
        for line in expected.splitlines()
    ]
    return "".join(lines)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_transcript(transcript: Path, machine: Path) -> None:
    text = transcript.read_text()
    written = [text.partition("$ ")[0]]
    for line, expected in scenes(text):
        found = shown(*typed(line))
        same = re.fullmatch(pattern(expected), f"{found}\n" if found else "")
        written.append(f"$ {line}\n{expected if same else found}\n\n")
        if not os.environ.get("UPDATE_TRANSCRIPTS"):
            assert same, f"$ {line}\n{found}\n--- expected\n{expected}"
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        transcript.write_text("".join(written).rstrip() + "\n")


def test_there_are_transcripts() -> None:
    assert len(TRANSCRIPTS) > 5


def test_a_difference_is_seen(machine: Path) -> None:
    assert not re.fullmatch(pattern("0.0.0"), shown(*typed("mizzen version -s")) + "\n")
    assert re.fullmatch(pattern("…\nb … d\n…"), "a\nb c d\ne\n")
