"""The YAML a verb is given: files, folders, standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from mizzen.cli import exits

SUFFIXES = (".yaml", ".yml", ".json")


def texts(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(name, text) of every file named; folders are read recursively, `-` is standard input. Raises Failure."""
    for name in names:
        if name == "-":
            yield "-", decoded("standard input", sys.stdin.buffer.read())
            continue
        for path in sorted(found(Path(name))):
            yield str(path), read(path)


def found(path: Path) -> list[Path]:
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.suffix in SUFFIXES]
        if not files:
            raise exits.Failure(f"{path} holds no YAML", f"files must end in {', '.join(SUFFIXES)}")
        return files
    return [path]


def read(path: Path) -> str:
    try:
        return decoded(str(path), path.read_bytes())
    except OSError as error:
        raise exits.Failure(f"{path}: {error.strerror}", "name a file, a folder, or - for standard input") from error


def decoded(name: str, content: bytes) -> str:
    """UTF-8, with or without the mark that some editors put in front."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{name}: not UTF-8 text (byte {error.start})"
        raise exits.Failure(where, "save the file as UTF-8", exits.UNPARSABLE) from error
