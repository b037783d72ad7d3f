"""`mizzen validate -f FILE`: every finding with file, line, column, reason and cure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from mizzen.cli import exits, files, render, talk

if TYPE_CHECKING:
    from mizzen.api.base import Problem, Resource
    from mizzen.api.documents import Document


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the answer. What JSON shows never lacks a key."""

    file: str
    line: int = 1
    column: int = 1
    level: str = "error"
    object: str = ""
    path: str = ""
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        what = ": ".join(part for part in (self.object, self.path, self.message) if part)
        return f"{where}: {self.level}: {what}"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of one file."""

    name: str
    documents: tuple[Document, ...] = ()
    unreadable: tuple[Finding, ...] = ()


@click.command()
@click.option("-f", "--filename", "names", multiple=True, help="YAML or JSON; a folder; - for standard input.")
@click.argument("more", nargs=-1)
@click.option(
    "-x",
    "--referential/--no-referential",
    default=True,
    help="Where the files hold Services: also complain about hosts and subsets that none of them has.",
)
@render.output
def command(names: tuple[str, ...], more: tuple[str, ...], referential: bool, form: str) -> None:
    """Check Istio YAML before it is applied; nothing is sent anywhere. Exit code 65: a file cannot be read as YAML."""
    given = (*names, *more)
    if not given:
        raise exits.Failure("no file given", "mizzen validate -f FILE", exits.USAGE)
    read = [file_of(name, text) for name, text in files.texts(given)]
    findings = [finding for file in read for finding in findings_of(file)]
    if referential:
        findings += list(dangling(read))
    if form != "table":
        render.show(form, findings, (), ())
    else:
        tell(given, findings)
    conclude(findings)


def tell(given: Sequence[str], findings: Sequence[Finding]) -> None:
    for finding in findings:
        talk.say(str(finding))
    if not any(finding.level == "error" for finding in findings):
        click.echo("validation succeed" if given == ("-",) else "\n".join(f'"{name}" is valid' for name in given))


def conclude(findings: Sequence[Finding]) -> None:
    """Raises Failure when there are errors."""
    errors = [finding for finding in findings if finding.level == "error"]
    if not errors:
        return
    code = exits.FAILED if all(finding.object for finding in errors) else exits.UNPARSABLE
    count = f"{len(errors)} error{'s' * (len(errors) != 1)} occurred"
    raise exits.Failure(count, "mend what the lines above say; nothing was sent to a cluster", code)


def file_of(name: str, text: str) -> File:
    from mizzen.api.documents import NotYaml, load

    try:
        documents = load(text)
    except NotYaml as error:
        place = error.position
        return File(
            name=name,
            unreadable=(Finding(file=name, line=place.line, column=place.column, message=error.message),),
        )
    stray = [one for one in documents if not isinstance(one.value, dict)]
    return File(
        name=name,
        documents=tuple(one for one in documents if isinstance(one.value, dict)),
        unreadable=tuple(not_an_object(name, one) for one in stray),
    )


def not_an_object(name: str, document: Document) -> Finding:
    place = document.position("")
    message = "this is no object: a document starts with `apiVersion:` and `kind:`"
    return Finding(file=name, line=place.line, column=place.column, message=message)


def findings_of(file: File) -> Iterator[Finding]:
    from mizzen.api.validate import validate

    yield from file.unreadable
    for document in file.documents:
        for problem in validate(document.value):
            yield located(file.name, document, problem, problem.level)


def dangling(read: Sequence[File]) -> Iterator[Finding]:
    """References between the given files that lead nowhere; nothing where no Service is given, so that nobody knows."""
    from mizzen.analysis import dangling_references
    from mizzen.scope.snapshot import Snapshot

    documents = [(file.name, document) for file in read for document in file.documents]
    if not any(document.value.get("kind") == "Service" for _, document in documents):
        return
    snapshot = Snapshot.of(one for _, document in documents for one in resources(document))
    for name, document in documents:
        for problem in dangling_references(snapshot, in_namespace(document)):
            yield located(name, document, problem, "error")


def resources(document: Document) -> Iterator[Resource]:
    """The object, if it is of a kind that meshes are made of and can be read."""
    from mizzen.api.decode import Undecodable, convert
    from mizzen.scope.snapshot import WATCHED

    kinds = {kind.__name__: kind for kind in WATCHED}
    value = in_namespace(document)
    if value.get("kind") not in kinds:
        return
    try:
        yield convert({"spec": {}, **value}, kinds[value["kind"]])
    except Undecodable:
        return  # findings_of has said so


def in_namespace(document: Document) -> dict[str, Any]:
    """Where kubectl would put it: without a word, into `default`."""
    return {**document.value, "metadata": {"namespace": "default", **(document.value.get("metadata") or {})}}


def located(name: str, document: Document, problem: Problem, level: str) -> Finding:
    position = document.position(problem.path)
    return Finding(
        file=name,
        line=position.line,
        column=position.column,
        level=level,
        object=f"{problem.kind} {problem.name}".strip() or "document",
        path=problem.path,
        message=problem.message,
    )
