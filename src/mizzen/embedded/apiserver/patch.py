"""PATCH bodies: JSON Patch (RFC 6902), JSON Merge Patch (RFC 7386), and the door to Kubernetes' strategic merge patch.

Nothing here changes its arguments.
Server-side apply is another thing altogether: apply.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from mizzen.embedded.apiserver import schema_definitions
from mizzen.embedded.apiserver.patch_strategic import StrategicPatchError, strategic_merge
from mizzen.kube.api import JSON, Resource

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class PatchError(Exception):
    """A patch that cannot be honoured; `code`, `reason` and `message` make its Status."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message


def bad_request(message: str) -> PatchError:
    return PatchError(400, "BadRequest", message)


def unprocessable(message: str) -> PatchError:
    """The server understands the patch but this object cannot take it."""
    return PatchError(422, "Invalid", message)


def unsupported(content_type: str, accepted: tuple[str, ...]) -> PatchError:
    known = ", ".join(accepted)
    return PatchError(
        415,
        "UnsupportedMediaType",
        f"the body of the request was in an unknown format - accepted media types include: {known}",
    )


def apply_patch(content_type: str, resource: Resource, current: JSON, body: Any) -> JSON:
    """`current` changed as the decoded `body` says, as a document of its own.

    Raises PatchError: 400 malformed, 415 not for this resource, 422 does not fit this object.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media == JSON_PATCH:
        return _object(json_patch(current, body))
    if media == MERGE_PATCH:
        return _object(merge_patch(current, body))
    schema = schema_definitions.kind_schema(resource.group, resource.version, resource.kind)
    if media == STRATEGIC_MERGE_PATCH and schema is not None:
        return _object(_strategic(current, body, schema))
    accepted = (JSON_PATCH, MERGE_PATCH, *((STRATEGIC_MERGE_PATCH,) if schema is not None else ()), APPLY_PATCH)
    raise unsupported(content_type, accepted)


def _object(result: Any) -> JSON:
    if not isinstance(result, dict):
        raise bad_request("the patch turns the object into something that is not a JSON object")
    copied: JSON = _copy_of(result)
    return copied


def _copy_of(value: Any) -> Any:
    """A JSON value that shares nothing; eight times faster than deepcopy."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _strategic(current: JSON, body: Any, schema: schema_definitions.Node) -> JSON:
    if not isinstance(body, dict):
        raise bad_request("a strategic merge patch must be a JSON object")
    try:
        return strategic_merge(current, body, schema)
    except StrategicPatchError as error:
        raise bad_request(str(error)) from error


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386, section 2."""
    if not isinstance(patch, dict):
        return _copy_of(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(document: Any, operations: Any) -> Any:
    """RFC 6902. Raises PatchError with the number of the operation that failed."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch must be a list of operations")
    result = _copy_of(document)
    for number, operation in enumerate(operations):
        if not isinstance(operation, dict):
            raise bad_request(f"operation {number} of the JSON patch is not an object")
        result = _operate(result, operation, number)
    return result


def _operate(document: Any, operation: JSON, number: int) -> Any:
    name = operation.get("op")
    apply = _OPERATIONS.get(name) if isinstance(name, str) else None
    if apply is None:
        raise bad_request(f"operation {number} of the JSON patch has an unknown op {name!r}")
    try:
        return apply(document, operation)
    except KeyError as error:
        raise bad_request(f"operation {number} ({name}) of the JSON patch lacks {error}") from error
    except _PointerError as error:
        raise unprocessable(f"the server rejected our request due to an error in our request: {error}") from error


class _PointerError(Exception):
    """A pointer that leads nowhere, or a test that does not hold."""


def _tokens(pointer: Any) -> list[str]:
    if pointer == "":
        return []
    if not isinstance(pointer, str) or not pointer.startswith("/"):
        raise _PointerError(f"{pointer!r} is not a JSON pointer")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def _position(items: list[Any], token: str, limit: int) -> int:
    """The index that `token` names in a list, at most `limit`."""
    if not token.isascii() or not token.isdigit() or (token != "0" and token[0] == "0") or int(token) > limit:  # noqa: S105
        raise _PointerError(f"{token!r} is not an index of a list of {len(items)}")
    return int(token)


def _step(node: Any, token: str) -> Any:
    if isinstance(node, dict) and token in node:
        return node[token]
    if isinstance(node, list):
        return node[_position(node, token, len(node) - 1)]
    raise _PointerError(f"the path has no {token!r}")


def _get(document: Any, pointer: Any) -> Any:
    for token in _tokens(pointer):
        document = _step(document, token)
    return document


def _parent(document: Any, tokens: list[str]) -> Any:
    for token in tokens[:-1]:
        document = _step(document, token)
    return document


def _put(document: Any, pointer: Any, value: Any) -> Any:
    tokens = _tokens(pointer)
    if not tokens:
        return value
    parent, last = _parent(document, tokens), tokens[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _position(parent, last, len(parent)), value)
    elif isinstance(parent, dict):
        parent[last] = value
    else:
        raise _PointerError(f"the path {pointer!r} leads into a value that has no members")
    return document


def _take(document: Any, pointer: Any) -> tuple[Any, Any]:
    """The document without what the pointer names, and what it named."""
    tokens = _tokens(pointer)
    if not tokens:
        return None, document
    parent, last = _parent(document, tokens), tokens[-1]
    taken = _step(parent, last)
    if isinstance(parent, list):
        del parent[int(last)]
    else:
        del parent[last]
    return document, taken


def _add(document: Any, operation: JSON) -> Any:
    return _put(document, operation["path"], _copy_of(operation["value"]))


def _remove(document: Any, operation: JSON) -> Any:
    return _take(document, operation["path"])[0]


def _replace(document: Any, operation: JSON) -> Any:
    value, path = operation["value"], operation["path"]
    return _put(_take(document, path)[0], path, _copy_of(value))


def _move(document: Any, operation: JSON) -> Any:
    source, target = operation["from"], operation["path"]
    if _tokens(target)[: len(_tokens(source))] == _tokens(source) and source != target:
        raise _PointerError(f"cannot move {source!r} into itself")
    rest, value = _take(document, source)
    return _put(rest, target, value)


def _copy(document: Any, operation: JSON) -> Any:
    return _put(document, operation["path"], _copy_of(_get(document, operation["from"])))


def _test(document: Any, operation: JSON) -> Any:
    path, expected = operation["path"], operation["value"]
    if not _equal(_get(document, path), expected):
        raise _PointerError(f"testing path {path} failed")
    return document


def _equal(left: Any, right: Any) -> bool:
    """JSON equality: Python holds True == 1, JSON does not."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return bool(left == right)


_OPERATIONS: dict[str, Callable[[Any, JSON], Any]] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}
