"""`mizzen samples list|path|export`: Bookinfo and friends as YAML, in the tree that tutorials expect."""

from __future__ import annotations

import shutil
from pathlib import Path

import click

from mizzen.cli import exits, render, talk
from mizzen.cli.groups import Group


def manifests() -> Path:
    """The folder inside the package that `export` copies to `DIR/samples`."""
    return Path(__file__).resolve().parent.parent / "samples" / "manifests"


@click.group(cls=Group)
def command() -> None:
    """Bookinfo and friends: their YAML."""


@command.command("list")
@render.output
def list_samples(form: str) -> None:
    """What there is, with the files of each sample."""
    root = manifests()
    rows = [
        {"name": sample.name, "files": sorted(str(file.relative_to(root)) for file in sample.rglob("*.yaml"))}
        for sample in sorted(root.iterdir())
        if sample.is_dir()
    ]
    render.show(form, rows, ("NAME", "FILES"), ((str(row["name"]), str(len(row["files"]))) for row in rows))


@command.command()
@click.argument("sample", required=False, default="")
def path(sample: str) -> None:
    """Where the YAML of a sample lies: `kubectl apply -f "$(mizzen samples path httpbin/httpbin.yaml)"`."""
    wanted = manifests() / sample
    if not wanted.exists():
        raise exits.Failure(f"no sample {sample!r}", "`mizzen samples list` shows them")
    click.echo(wanted)


@command.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def export(directory: Path) -> None:
    """Copy the samples to DIRECTORY/samples, and DIRECTORY/bin/istioctl beside them, as Istio's download has it."""
    shutil.copytree(manifests(), directory / "samples", dirs_exist_ok=True)
    from mizzen.cli.shims import write_shims

    write_shims(directory / "bin")
    talk.say(f"samples are in {directory / 'samples'}, istioctl is in {directory / 'bin'}")
