"""Names, labels, numbers and choices: the checks that every kind shares, in Kubernetes' words.

Each function yields the causes it finds. Wording: k8s.io/apimachinery/pkg/util/validation and .../validation/field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from mizzen.embedded.apiserver.errors import Cause, invalid_value, required

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{LABEL}')"
)
SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{SUBDOMAIN}')"
)
_LABEL_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_LABEL_1035_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    f"'{_LABEL_1035}')"
)
_VALUE = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'{_VALUE}')"
)
_NAME_PART = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_NAME_PART_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_NAME_PART}')"
)
_DATA_KEY = "[-._a-zA-Z0-9]+"
_DATA_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or "
    f"'key-name', regex used for validation is '{_DATA_KEY}')"
)
_PORT_NAME = "[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_PROTOCOLS = ("SCTP", "TCP", "UDP")


def at_most(field: str, value: str, limit: int) -> Iterator[Cause]:
    if len(value) > limit:
        yield invalid_value(field, value, f"must be no more than {limit} characters")


def dns_label(field: str, value: str) -> Iterator[Cause]:
    """RFC 1123."""
    yield from at_most(field, value, 63)
    if not re.fullmatch(LABEL, value):
        yield invalid_value(field, value, LABEL_RULE)


def dns_1035_label(field: str, value: str) -> Iterator[Cause]:
    """What names a Service."""
    yield from at_most(field, value, 63)
    if not re.fullmatch(_LABEL_1035, value):
        yield invalid_value(field, value, _LABEL_1035_RULE)


def dns_subdomain(field: str, value: str) -> Iterator[Cause]:
    yield from at_most(field, value, 253)
    if not re.fullmatch(SUBDOMAIN, value):
        yield invalid_value(field, value, SUBDOMAIN_RULE)


def label_key(field: str, key: str) -> Iterator[Cause]:
    prefix, slash, name = key.rpartition("/")
    if slash and not prefix:
        yield invalid_value(field, key, "prefix part must be non-empty")
    elif slash and not re.fullmatch(SUBDOMAIN, prefix):
        yield invalid_value(field, key, f"prefix part {SUBDOMAIN_RULE}")
    if not name:
        yield invalid_value(field, key, "name part must be non-empty")
    elif len(name) > 63:
        yield invalid_value(field, key, "name part must be no more than 63 characters")
    if not re.fullmatch(_NAME_PART, name):
        yield invalid_value(field, key, _NAME_PART_RULE)


def labels(field: str, values: dict[str, str] | None) -> Iterator[Cause]:
    for key, value in (values or {}).items():
        yield from label_key(field, key)
        yield from at_most(field, value, 63)
        if not re.fullmatch(_VALUE, value):
            yield invalid_value(field, value, _VALUE_RULE)


def data_keys(field: str, values: Iterable[str]) -> Iterator[Cause]:
    """The keys of a ConfigMap or Secret."""
    for key in values:
        yield from at_most(f"{field}[{key}]", key, 253)
        if not re.fullmatch(_DATA_KEY, key):
            yield invalid_value(f"{field}[{key}]", key, _DATA_KEY_RULE)


def choice(field: str, value: Any, allowed: tuple[str, ...]) -> Iterator[Cause]:
    """One of several words; absent is fine."""
    if value is not None and value not in allowed:
        told = ", ".join(f'"{each}"' for each in sorted(allowed))
        yield Cause("FieldValueNotSupported", field, f'Unsupported value: "{value}": supported values: {told}')


def needed(field: str, value: Any, why: str = "") -> Iterator[Cause]:
    if value in (None, "", [], {}):
        yield required(field, why)


def not_negative(field: str, value: int | None) -> Iterator[Cause]:
    if value is not None and value < 0:
        yield invalid_value(field, value, "must be greater than or equal to 0")


def port_number(field: str, value: int | None) -> Iterator[Cause]:
    if value is None:
        yield required(field)
    elif not 0 < value < 65536:
        yield invalid_value(field, value, "must be between 1 and 65535, inclusive")


def port_name(field: str, value: str) -> Iterator[Cause]:
    """An IANA service name."""
    if len(value) > 15:
        yield invalid_value(field, value, "must be no more than 15 characters")
    if not re.fullmatch(_PORT_NAME, value):
        told = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
        yield invalid_value(field, value, told)
    if not re.search("[a-z]", value):
        yield invalid_value(field, value, "must contain at least one letter (a-z)")
    if "--" in value:
        yield invalid_value(field, value, "must not contain consecutive hyphens")


def port_reference(field: str, value: int | str | None) -> Iterator[Cause]:
    """A port by number or by name."""
    if isinstance(value, str):
        yield from port_name(field, value)
    else:
        yield from port_number(field, value)


def protocol(field: str, value: str | None) -> Iterator[Cause]:
    yield from choice(field, value, _PROTOCOLS)


def duplicate(field: str, value: Any) -> Cause:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueDuplicate", field, f"Duplicate value: {shown}")


def forbidden(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {why}")


def not_found(field: str, value: str) -> Cause:
    return Cause("FieldValueNotFound", field, f'Not found: "{value}"')


def go_labels(values: dict[str, str] | None) -> str:
    """A label map as Go prints it."""
    if values is None:
        return "map[string]string(nil)"
    return "map[string]string{" + ", ".join(f'"{key}":"{value}"' for key, value in sorted(values.items())) + "}"
