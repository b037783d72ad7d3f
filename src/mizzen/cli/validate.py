"""`mizzen validate -f FILE`: every finding with file, line, column, reason and cure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from mizzen.api.base import Model
from mizzen.cli import exits, files, render, talk

if TYPE_CHECKING:
    from mizzen.api.base import Problem
    from mizzen.api.documents import Document


class Finding(Model):
    """One line of the answer."""

    file: str
    line: int
    column: int
    level: str
    object: str
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        what = ": ".join(part for part in (self.object, self.path, self.message) if part)
        return f"{where}: {self.level}: {what}"


@click.command()
@click.option("-f", "--filename", "names", multiple=True, help="YAML; a folder; - for standard input.")
@click.argument("more", nargs=-1)
@click.option(
    "-x", "--referential/--no-referential", default=True, help="Also complain about what is referred to but not there."
)
@render.output
def command(names: tuple[str, ...], more: tuple[str, ...], referential: bool, form: str) -> None:
    """Check Istio YAML before it is applied; nothing is sent anywhere."""
    given = (*names, *more)
    if not given:
        raise exits.Failure("no file given", "mizzen validate -f FILE", exits.USAGE)
    findings = [finding for name, text in files.texts(given) for finding in findings_of(name, text)]
    errors = [finding for finding in findings if finding.level == "error"]
    if form != "table":
        render.show(form, findings, (), ())
    else:
        for finding in findings:
            talk.say(str(finding))
        if not errors:
            click.echo("validation succeed" if given == ("-",) else "\n".join(f'"{name}" is valid' for name in given))
    if errors:
        raise exits.Failure(f"{len(errors)} error{'s' * (len(errors) != 1)} occurred", "nothing was sent to a cluster")


def findings_of(name: str, text: str) -> Iterator[Finding]:
    from mizzen.api.documents import NotYaml, load
    from mizzen.api.validate import validate

    try:
        documents = load(text)
    except NotYaml as error:
        yield Finding(
            file=name,
            line=error.position.line,
            column=error.position.column,
            level="error",
            object="",
            path="",
            message=error.message,
        )
        return
    for document in documents:
        for problem in validate(document.value):
            yield located(name, document, problem)


def located(name: str, document: Document, problem: Problem) -> Finding:
    position = document.position(problem.path)
    return Finding(
        file=name,
        line=position.line,
        column=position.column,
        level=problem.level,
        object=f"{problem.kind} {problem.name}".strip(),
        path=problem.path,
        message=problem.message,
    )
