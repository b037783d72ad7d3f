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
            yield "-", sys.stdin.read()
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
        return path.read_text()
    except OSError as error:
        raise exits.Failure(f"{path}: {error.strerror}", "name a file, a folder, or - for standard input") from error
    except UnicodeDecodeError as error:
        raise exits.Failure(f"{path}: not UTF-8 text (byte {error.start})", code=exits.UNPARSABLE) from error
