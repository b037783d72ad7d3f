"""What a container image means on this machine: a glob over image names leads to a command or to a function of ours.

The user's own come from `images.json` in the state folder (`mizzen image add`) and win over the built-in ones.
"""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec


class Command(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="command"):
    """A program of this machine: `entrypoint` and `args` as in an image, `workdir` its folder (bound in read-only)."""

    entrypoint: list[str] = []
    args: list[str] = []
    workdir: str = ""
    env: dict[str, str] = {}


class Function(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="function"):
    """A function of an importable module ("module:name"), called in a fork of init with `sys.argv` set."""

    function: str
    args: list[str] = []
    env: dict[str, str] = {}
    commands: dict[str, str] = {}
    """Programs that `exec` and a container's `command` may name in such an image, and the functions they are."""
    is_proxy: bool = False
    """A proxy whose traffic must be told from the app's: by its user, or, where there is but one, by a mark."""


Image: TypeAlias = Command | Function

SYSTEM_FOLDERS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "nix", "gnu")
"""Folders of / that every container sees, read-only."""

_PROXY_COMMANDS = {"pilot-agent": "mizzen.agent.main:main", "/usr/local/bin/pilot-agent": "mizzen.agent.main:main"}

BUILTIN: Mapping[str, Image] = {
    "*/proxyv2:*": Function(function="mizzen.agent.main:main", commands=_PROXY_COMMANDS, is_proxy=True),
    "*/pilot:*": Function(function="mizzen.controlplane.main:main", args=["discovery"]),
}

_SAMPLES = "mizzen.samples.images"


def builtin_images() -> dict[str, Image]:
    """Every image this package brings. The samples' own table says what they are, in the words of `images.json`."""
    try:
        table: Mapping[str, Any] = importlib.import_module(_SAMPLES).IMAGES
    except ModuleNotFoundError as error:
        if error.name not in (_SAMPLES, _SAMPLES.rpartition(".")[0]):
            raise
        table = {}
    samples = {glob: _from_sample(image) for glob, image in table.items()}
    return {**samples, **BUILTIN}


def builtin_modules() -> list[str]:
    """The modules that functions of built-in images live in."""
    functions = [image.function for image in builtin_images().values() if isinstance(image, Function)]
    return sorted({function.partition(":")[0] for function in functions})


def _from_sample(image: Any) -> Image:
    """Samples import nothing of ours: an entry is "module:function", or a mapping with the fields of an Image."""
    if isinstance(image, Command | Function):
        return image
    if isinstance(image, str):
        return Function(function=image)
    found: Image = msgspec.convert(
        {"type": "function" if "function" in image else "command", **image}, type=Command | Function
    )
    return found


def load(path: Path) -> dict[str, Image]:
    """The user's images. Raises ValueError naming file and place when it is not what `mizzen image add` writes."""
    if not path.exists():
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Command | Function])
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from error


def save(path: Path, table: Mapping[str, Image]) -> None:
    """Replace the file in one step, so that a node that reads it meets the old or the new one."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=2))
    fresh.replace(path)


def find(image: str, table: Mapping[str, Image]) -> Image | None:
    """The entry whose glob matches `image`: the most specific one, that is the one with most literal characters."""
    names = spellings(image)
    matching = [glob for glob in table if any(fnmatch.fnmatchcase(name, glob) for name in names)]
    return table[max(matching, key=_literal_characters)] if matching else None


def resolve(image: str, user: Mapping[str, Image], builtin: Mapping[str, Image]) -> Image | None:
    """What `image` means: the user's word first. None when nobody has said."""
    return find(image, user) or find(image, builtin)


def spellings(image: str) -> list[str]:
    """The names by which people may have meant `image`: as written, with `:latest`, with Docker's registry."""
    bare = image.partition("@")[0]
    tagged = bare if _has_tag(bare) else f"{bare}:latest"
    prefixes = ["docker.io/library/"] if "/" not in bare else [] if _has_registry(bare) else ["docker.io/"]
    return [image, tagged, *(f"{prefix}{tagged}" for prefix in prefixes)]


def _has_tag(image: str) -> bool:
    return ":" in image.rpartition("/")[2]


def _has_registry(image: str) -> bool:
    host = image.partition("/")[0]
    return "." in host or ":" in host or host == "localhost"


def _literal_characters(glob: str) -> int:
    return len(re.sub(r"\[[^]]*\]|[*?]", "", glob))


def program_folders(image: Command) -> list[Path]:
    """The folders of this machine, beside `workdir`, that the image's program needs: its own, or its prefix.

    A virtual environment's interpreter is a link, often into a private folder: each step of the way counts.
    """
    if not image.entrypoint or "/" not in image.entrypoint[0]:
        return []
    program = Path(image.workdir or "/", image.entrypoint[0])
    found = [_home_of(program)]
    while program.is_symlink():
        program = program.parent / program.readlink()
        found.append(_home_of(program))
    needed = [folder for folder in found if folder.parts[1:2] and folder.parts[1] not in SYSTEM_FOLDERS]
    return [each for each in dict.fromkeys(needed) if not image.workdir or not each.is_relative_to(image.workdir)]


def _home_of(program: Path) -> Path:
    """An installation's prefix if the program lies in its `bin`, else just the program's folder."""
    folder = Path(os.path.normpath(program.parent))
    return folder.parent if folder.name == "bin" and (folder.parent / "lib").is_dir() else folder


def invocation(image: Image, command: Sequence[str] | None, args: Sequence[str] | None) -> tuple[list[str], str]:
    """What to run: argv, and the function if it is one of ours. `command` and `args` override as in Kubernetes.

    Kubernetes: `command` replaces the image's entry point *and* its arguments; `args` alone replaces the arguments.
    """
    if isinstance(image, Command):
        if command:
            return [*command, *(args or [])], ""
        return [*image.entrypoint, *(image.args if args is None or not args else args)], ""
    if command:
        return [*command, *(args or [])], image.commands.get(command[0], "")
    name = image.function.partition(":")[0].rpartition(".")[2]
    return [name, *(args or image.args)], image.function
