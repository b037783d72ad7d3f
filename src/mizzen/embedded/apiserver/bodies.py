"""Request bodies: JSON, YAML and protobuf, and the check for fields that the schema does not know."""

from __future__ import annotations

from typing import Any

import msgspec

from mizzen.embedded.apiserver import errors
from mizzen.embedded.apiserver.operation import Call, DeleteOptions
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.wire import Request
from mizzen.kube.api import JSON, Preconditions, Resource

ACCEPTED = ("application/json", "application/yaml", "application/vnd.kubernetes.protobuf")
_DELETE_OPTIONS = Resource("", "v1", "", "DeleteOptions")
MAX_BYTES = 3 * 1024 * 1024
"""The limit of a real API server's requests."""


def media_type(request: Request) -> str:
    return request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()


def decode(request: Request) -> Any:
    """Whatever the body says, as JSON values. Raises 400, 413 and 415."""
    media = media_type(request) or "application/json"
    if media == "application/vnd.kubernetes.protobuf":
        return _from_protobuf(request.body)
    if media in ("application/yaml", "application/apply-patch+yaml"):
        return _from_yaml(request.body)
    if media == "application/json" or media.endswith("+json"):
        return _from_json(request.body)
    raise errors.unsupported_media_type(ACCEPTED)


def decode_object(request: Request) -> JSON:
    """The body, which must be an object. Raises 400."""
    document = decode(request)
    if not isinstance(document, dict):
        raise errors.bad_request("the body of the request must be an object")
    if not isinstance(document.get("metadata", {}) or {}, dict):
        raise errors.bad_request("metadata must be an object")
    if document.get("metadata", {}) is None:
        del document["metadata"]
    return document


def _from_json(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise errors.bad_request(f"the body of the request is not valid JSON: {error}") from None


def _from_yaml(body: bytes) -> Any:
    if body.lstrip()[:1] == b"{":
        return _from_json(body)
    from mizzen.embedded.apiserver import yaml_bodies

    try:
        return yaml_bodies.load(body)
    except yaml_bodies.NotJson as error:
        raise errors.bad_request(f"error converting YAML to JSON: {error}") from None


def _from_protobuf(body: bytes) -> Any:
    from mizzen.embedded.apiserver import protobuf

    try:
        return protobuf.decode(body)
    except protobuf.ProtobufError as error:
        raise errors.bad_request(f"the protobuf body of the request cannot be decoded: {error}") from None


def call_of(request: Request) -> Call:
    """How this request writes. Raises 400."""
    dry_run = [value for key, value in request.query if key == "dryRun" and value]
    if any(value != "All" for value in dry_run):
        raise errors.bad_request(f'invalid dryRun: Unsupported value: "{dry_run[0]}": supported values: "All"')
    validation = request.parameter("fieldValidation") or "Warn"
    if validation not in ("Strict", "Warn", "Ignore"):
        raise errors.bad_request(f'invalid fieldValidation: Unsupported value: "{validation}"')
    return Call(
        user=request.user,
        manager=request.parameter("fieldManager") or _agent_name(request),
        dry_run=bool(dry_run),
        force=request.flag("force"),
        validation=validation,  # type: ignore[arg-type]
        warnings=request.warnings,
    )


def _agent_name(request: Request) -> str:
    """A client that names no manager is called after its user agent, as Kubernetes does."""
    return request.headers.get("user-agent", "").partition("/")[0] or "unknown"


def fit(kind: ResourceType, obj: JSON, call: Call, request: Request | None = None) -> JSON:
    """What the schema keeps of an object, saying (Warn) or refusing (Strict) what it does not know. Raises 400.

    That is the object itself when nothing is wrong with it.
    """
    from mizzen.embedded.apiserver import schema

    resource, structural = kind.resource, structural_schema(kind)
    well = structural is None and schema.fits(resource, obj)
    unknown = [] if well else _unknown(kind, obj, structural)
    duplicates = (
        schema.duplicate_fields(request.body) if request and call.validation == "Strict" and _is_json(request) else []
    )
    if (unknown or duplicates) and call.validation == "Strict":
        raise errors.bad_request(_cannot_handle(kind, schema.strict_decoding_error(unknown, duplicates)))
    if call.validation == "Warn":
        call.warnings.extend(unknown)
    return obj if well else schema.prune(resource, obj, structural)


def _unknown(kind: ResourceType, obj: JSON, structural: JSON | None) -> list[str]:
    """What to say of fields that the schema does not know. Raises 400 for an object that cannot be decoded at all."""
    from mizzen.embedded.apiserver import schema

    resource = kind.resource
    if problem := schema.decoding_error(resource, obj) or _null_element(obj, ""):
        raise errors.bad_request(_cannot_handle(kind, problem))
    paths = schema.unknown_fields(resource, obj, structural)
    return [schema.unknown_field_message(resource, path, structural) for path in paths]


def decode_as(resource: Resource, request: Request) -> JSON:
    """The body of a subresource, or DeleteOptions: an object of the built-in kind that `resource` names. Raises 400."""
    return checked(resource, decode_object(request))


def checked(resource: Resource, body: JSON) -> JSON:
    """A body whose types are those of the built-in kind. Raises 400."""
    from mizzen.embedded.apiserver import schema

    if problem := schema.decoding_error(resource, body) or _null_element(body, ""):
        raise errors.bad_request(f"{resource.kind} cannot be read: {problem}")
    return schema.prune(resource, body)


def _null_element(value: Any, path: str) -> str | None:
    """Go turns a null in a list into an empty element, which no author means."""
    if isinstance(value, dict):
        found = (_null_element(item, f"{path}.{key}") for key, item in value.items() if isinstance(item, (dict, list)))
        return next((each for each in found if each), None)
    for index, item in enumerate(value):
        if item is None:
            return f"{path}[{index}]: null is no element of a list"
        if isinstance(item, (dict, list)) and (below := _null_element(item, f"{path}[{index}]")):
            return below
    return None


def structural_schema(kind: ResourceType) -> JSON | None:
    """A custom resource's `openAPIV3Schema`; None for built-in kinds."""
    if kind.crd_version is None:
        return None
    found: JSON = (kind.crd_version.get("schema") or {}).get("openAPIV3Schema") or {}
    return found


def _is_json(request: Request) -> bool:
    return media_type(request) == "application/json"


def _cannot_handle(kind: ResourceType, problem: str) -> str:
    if kind.custom:
        return problem
    name = kind.resource.kind
    return f'{name} in version "{kind.resource.version}" cannot be handled as a {name}: {problem}'


def delete_call(request: Request) -> Call:
    """A deletion may also say dryRun in its body. Raises 400."""
    return deleting(call_of(request), decode_object(request) if request.body else {})


def deleting(call: Call, options: JSON) -> Call:
    """`call` as DeleteOptions, wherever they stand in a body, want it. Raises 400."""
    asked = list(options.get("dryRun") or ())
    if any(value != "All" for value in asked):
        raise errors.bad_request(f'invalid dryRun: Unsupported value: "{asked[0]}": supported values: "All"')
    call.dry_run = call.dry_run or bool(asked)
    return call


def delete_options(request: Request) -> DeleteOptions:
    """From the body or, where that is empty, from the query. Raises 400."""
    body = decode_as(_DELETE_OPTIONS, request) if request.body else {}
    grace = body.get("gracePeriodSeconds", request.number("gracePeriodSeconds"))
    orphan = body.get("orphanDependents")
    policy = body.get("propagationPolicy") or request.parameter("propagationPolicy") or None
    if policy not in (None, "Background", "Foreground", "Orphan"):
        raise errors.bad_request(f'invalid propagationPolicy: Unsupported value: "{policy}"')
    if policy is None and orphan is not None:
        policy = "Orphan" if orphan else "Background"
    conditions = body.get("preconditions") or {}
    return DeleteOptions(grace, policy, Preconditions(conditions.get("uid"), conditions.get("resourceVersion")))
