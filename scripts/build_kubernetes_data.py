"""Reduce Kubernetes' published definitions to the data file that the embedded API server carries.

    python scripts/build_kubernetes_data.py

Run by developers when the served Kubernetes version changes; needs the dev dependency `kubernetes-validate`. The
output, `src/mizzen/embedded/apiserver/data/definitions.zip`, has one JSON member per API package, so that a server
reads only what it is asked for:

    index.json                   {"apps/v1/Deployment": "io.k8s.api.apps.v1.Deployment", …}
    definitions/PACKAGE.json     {definition: OpenAPI schema without descriptions}
    descriptions/PACKAGE.json    {definition: {"": its description, property: the property's description}}
"""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import kubernetes_validate

VERSION = "1.32.0"
OUTPUT = Path(__file__).parent.parent / "src/mizzen/embedded/apiserver/data/definitions.zip"
SOURCE = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{VERSION}-local/_definitions.json"
PREVIEWS = ("alpha", "beta")
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
GVK = "x-kubernetes-group-version-kind"


def package(definition: str) -> str:
    return definition.rpartition(".")[0]


def is_served(definition: str) -> bool:
    return not any(word in package(definition) for word in PREVIEWS)


def plain_type(value: Any) -> Any:
    """`["string", "null"]` is how the source says optional; OpenAPI says it by leaving `required`."""
    return next(name for name in value if name != "null") if isinstance(value, list) else value


def reduced(node: Any) -> Any:
    """The schema node without descriptions, with OpenAPI's references and single types."""
    if isinstance(node, list):
        return [reduced(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: reduced_value(key, value)
        for key, value in node.items()
        if not (key == "description" and isinstance(value, str))
    }


def reduced_value(key: str, value: Any) -> Any:
    if key == "type" and not isinstance(value, dict):
        return plain_type(value)
    if key == "$ref" and isinstance(value, str):
        return value.replace("#/$defs/", "#/components/schemas/")
    return reduced(value)


def reduced_definition(name: str, source: dict[str, Any]) -> dict[str, Any]:
    if name == INT_OR_STRING:
        return {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    definition: dict[str, Any] = reduced(source)
    for constant in ("apiVersion", "kind"):
        definition.get("properties", {}).get(constant, {}).pop("enum", None)
    if len(kinds := definition.get(GVK, [])) > 1:  # DeleteOptions and WatchEvent belong to every group
        definition[GVK] = [kind for kind in kinds if kind["group"] == "" and kind["version"] == "v1"]
    return definition


def descriptions(source: dict[str, Any]) -> dict[str, str]:
    found = {name: node.get("description", "") for name, node in source.get("properties", {}).items()}
    return {name: text for name, text in {"": source.get("description", ""), **found}.items() if text}


def index(definitions: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {
        "/".join(part for part in (kind["group"], kind["version"], kind["kind"]) if part): name
        for name, definition in definitions.items()
        for kind in definition.get(GVK, ())
    }


def members(source: dict[str, dict[str, Any]]) -> dict[str, Any]:
    served = {name: node for name, node in sorted(source.items()) if is_served(name)}
    definitions = {name: reduced_definition(name, node) for name, node in served.items()}
    files: dict[str, Any] = defaultdict(dict)
    for name in served:
        files[f"definitions/{package(name)}.json"][name] = definitions[name]
        files[f"descriptions/{package(name)}.json"][name] = descriptions(served[name])
    return {"index.json": index(definitions), **files}


def write(path: Path, files: dict[str, Any]) -> None:
    """A zip whose bytes depend on nothing but its content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in files.items():
            text = json.dumps(content, separators=(",", ":"), sort_keys=True)
            archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED, compresslevel=9)


def main() -> None:
    write(OUTPUT, members(json.loads(SOURCE.read_bytes())["$defs"]))
    print(f"{OUTPUT.name}: {OUTPUT.stat().st_size} bytes from Kubernetes {VERSION}")


if __name__ == "__main__":
    main()
