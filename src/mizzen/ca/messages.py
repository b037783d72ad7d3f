"""Small protobuf messages described in code, so that no generated stub is shipped and no foreign pool is touched.

A message lists its fields as `name: (number, type)`; a type is a scalar's proto name, or the name of another message of
the same table, with `*` in front where the field repeats. Fields left out are kept as unknown bytes by protobuf, so a
table needs to name only what is read or written. A map is a repeated entry with `key` 1 and `value` 2, which is what it
is on the wire (https://protobuf.dev/programming-guides/encoding/#maps).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Fields: TypeAlias = Mapping[str, tuple[int, str]]

_PROTO = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _PROTO.TYPE_STRING,
    "bytes": _PROTO.TYPE_BYTES,
    "int32": _PROTO.TYPE_INT32,
    "int64": _PROTO.TYPE_INT64,
    "bool": _PROTO.TYPE_BOOL,
}


def message_classes(package: str, messages: Mapping[str, Fields]) -> dict[str, Any]:
    """The protobuf class of every described message, in a descriptor pool of their own."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        described = [_field(package, field, number, kind) for field, (number, kind) in fields.items()]
        file.message_type.add(name=name, field=described)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"{package}.{name}") for name in messages}
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


def _field(package: str, name: str, number: int, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    bare = kind.removeprefix("*")
    label = _PROTO.LABEL_REPEATED if kind != bare else _PROTO.LABEL_OPTIONAL
    if bare in _SCALARS:
        return _PROTO(name=name, number=number, label=label, type=_SCALARS[bare])
    return _PROTO(name=name, number=number, label=label, type=_PROTO.TYPE_MESSAGE, type_name=f".{package}.{bare}")


# istio.v1.auth: https://github.com/istio/istio/blob/master/security/proto/ca.proto
CA_METHOD = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
CA_SERVICE = "istio.v1.auth.IstioCertificateService"
TRUSTED_ROOTS = "TrustedRoots"
"""Our key in a request's metadata: fingerprints of the roots that the caller's proxy trusts, joined by commas."""

_CA = message_classes(
    "istio.v1.auth",
    {
        "Value": {"string_value": (3, "string")},
        "Entry": {"key": (1, "string"), "value": (2, "Value")},
        "Struct": {"fields": (1, "*Entry")},
        "IstioCertificateRequest": {
            "csr": (1, "string"),
            "validity_duration": (3, "int64"),
            "metadata": (4, "Struct"),
        },
        "IstioCertificateResponse": {"cert_chain": (1, "*string")},
    },
)
IstioCertificateRequest: Any = _CA["IstioCertificateRequest"]
IstioCertificateResponse: Any = _CA["IstioCertificateResponse"]
