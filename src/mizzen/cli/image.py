"""`mizzen image add|list|rm`: what a container image means on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from mizzen.cli import exits, render, talk
from mizzen.cli.clusters import name_option, paths_of
from mizzen.cli.groups import Group
from mizzen.embedded import images


@click.group(cls=Group)
def command() -> None:
    """What an image name runs on this machine: Pods are processes here, so an image is a command in a folder."""


@command.command()
@click.argument("image")
@click.option("--command", "line", required=True, metavar="LINE", help="What to run, for example 'python app.py'.")
@click.option(
    "--workdir",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    show_default=True,
    help="The folder it runs in; Pods see it read-only.",
)
@click.option("--env", "environment", multiple=True, metavar="KEY=VALUE", help="Environment of the image.")
@name_option
def add(image: str, line: str, workdir: Path, environment: tuple[str, ...], name: str) -> None:
    """Let IMAGE (a name or a glob, for example my-app:1.0 or 'my-app:*') run a command."""
    words = shlex.split(line)
    if not words:
        raise exits.Failure("--command is empty", "for example --command 'python app.py'", exits.USAGE)
    table = images.load(paths_of(name).images)
    table[image] = images.Command(entrypoint=words, workdir=str(workdir.resolve()), env=pairs(environment))
    images.save(paths_of(name).images, table)
    talk.say(f"{image} runs `{line}` in {workdir.resolve()}")


def pairs(environment: tuple[str, ...]) -> dict[str, str]:
    for pair in environment:
        if "=" not in pair:
            raise exits.Failure(f"--env {pair!r} is not KEY=VALUE", code=exits.USAGE)
    return dict(pair.split("=", 1) for pair in environment)


@command.command("list")
@name_option
@render.output
def list_images(name: str, form: str) -> None:
    """Every image that Pods of this cluster can use."""
    own = images.load(paths_of(name).images)
    rows = [(glob, described(image), "you") for glob, image in sorted(own.items())]
    rows += [(glob, described(image), "mizzen") for glob, image in sorted(images.builtin_images().items())]
    value = [dict(zip(("image", "runs", "from"), row, strict=True)) for row in rows]
    render.show(form, value, ("IMAGE", "RUNS", "FROM"), rows, padding=3)


def described(image: images.Image) -> str:
    if isinstance(image, images.Function):
        return image.function
    return shlex.join([*image.entrypoint, *image.args])


@command.command()
@click.argument("image")
@name_option
def rm(image: str, name: str) -> None:
    """Forget what was said with `image add`."""
    table = images.load(paths_of(name).images)
    if image not in table:
        raise exits.Failure(f"no image {image!r} was added", "`mizzen image list` shows what there is")
    del table[image]
    images.save(paths_of(name).images, table)
    talk.say(f"{image} is forgotten")
