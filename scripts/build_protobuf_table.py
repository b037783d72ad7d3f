"""Reduce Kubernetes' protobuf definitions to the table from which the embedded API server decodes request bodies.

    python scripts/build_protobuf_table.py API APIMACHINERY APIEXTENSIONS-APISERVER

The arguments are local checkouts of k8s.io/api, k8s.io/apimachinery and k8s.io/apiextensions-apiserver, at the release
that `build_kubernetes_data.py` names. `generated.proto` knows numbers and types; only the Go structs know the JSON
names, which fields are inlined, and which zero values JSON leaves out. The output,
`src/mizzen/embedded/apiserver/data/protobuf.zip`, has one JSON member per package:

    PACKAGE.json    {message: {field number: [JSON name, type, flags]}}

`type` is a scalar's name, a qualified message, or `map:TYPE`.
Flags: `r` repeated, `i` inlined, `z` keeps its zero value.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

OUTPUT = Path(__file__).parent.parent / "src/mizzen/embedded/apiserver/data/protobuf.zip"
SCALARS = {"string", "bytes", "bool", "int32", "int64", "double"}
PREVIEWS = ("alpha", "beta", "testapigroup", "imagepolicy")

PACKAGE = re.compile(r"^package ([\w.]+);", re.MULTILINE)
MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
FIELD = re.compile(
    r"^  (?:(optional|repeated|required) (\S+)|map<string, (\S+)>) (\w+) = (\d+)(?: \[[^\]]*\])?;", re.MULTILINE
)
STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
TAGGED = re.compile(r"^\s*(?:\w+\s+)?(\S+)\s+`([^`]*protobuf:\"[^`]*)`", re.MULTILINE)
NUMBER = re.compile(r'protobuf:"\w+,(\d+)')
JSON_NAME = re.compile(r'json:"([^",]*)((?:,\w+)*)"')


class GoField(NamedTuple):
    json_name: str
    inlined: bool
    keeps_zero: bool


def go_field(go_type: str, tags: str) -> GoField:
    found = JSON_NAME.search(tags)
    name, options = (found[1], found[2]) if found else ("", ",omitempty")
    return GoField(name, ",inline" in options, go_type.startswith("*") or ",omitempty" not in options)


def go_structs(folder: Path) -> dict[str, dict[int, GoField]]:
    """Of one Go package: {struct: {protobuf number: field}}."""
    structs = {}
    for file in sorted(folder.glob("*.go")):
        for name, body in STRUCT.findall(file.read_text()):
            fields = {int(n[1]): go_field(t, tags) for t, tags in TAGGED.findall(body) if (n := NUMBER.search(tags))}
            if fields:
                structs[name] = fields
    return structs


def qualified(name: str, package: str) -> str:
    return name if name in SCALARS else name.removeprefix(".") if name.startswith(".") else f"{package}.{name}"


def message(body: str, package: str, go: dict[int, GoField]) -> dict[str, list[str]]:
    fields = {}
    for label, single, value, name, number in FIELD.findall(body):
        known = go.get(int(number), GoField("", False, False))
        kind = qualified(single, package) if single else f"map:{qualified(value, package)}"
        flags = "r" * (label == "repeated") + "i" * known.inlined + "z" * known.keeps_zero
        fields[number] = [known.json_name or name, kind, flags]
    return fields


def packages(roots: list[Path]) -> Iterator[tuple[str, dict[str, dict[str, list[str]]]]]:
    for file in sorted(path for root in roots for path in root.rglob("generated.proto")):
        text = file.read_text()
        found = PACKAGE.search(text)
        if found is None or any(word in found[1] for word in PREVIEWS):
            continue
        go = go_structs(file.parent)
        yield found[1], {name: message(body, found[1], go.get(name, {})) for name, body in MESSAGE.findall(text)}


def main(arguments: list[str]) -> None:
    if not arguments:
        sys.exit(__doc__)
    with zipfile.ZipFile(OUTPUT, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for package, messages in packages([Path(argument) for argument in arguments]):
            text = json.dumps(messages, separators=(",", ":"), sort_keys=True)
            archive.writestr(zipfile.ZipInfo(f"{package}.json"), text, zipfile.ZIP_DEFLATED, compresslevel=9)
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
