"""Host names, labels, ports, header names and values, regular expressions, `exportTo`."""

from __future__ import annotations

import ipaddress
import re
import warnings
from collections.abc import Mapping

from mizzen.api.conditions import claim_path
from mizzen.api.legality.finding import Finding, Findings
from mizzen.api.paths import join

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?\Z")
_WILDCARD_LABEL = re.compile(r"(?:\*|(?:\*|\*-)?[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?)\Z")
_LABEL_NAME = re.compile(r"(?:[A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~A-Za-z0-9]+\Z")
_PSEUDO_HEADERS = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_HEADER_VALUE = re.compile(r"(?:[^%]|%%|%[^%(]+(?:\((?:\\.|[^)\\])*\) *)?%)*\Z")
_LONGEST_REGEX = 1024


def is_label(text: str) -> bool:
    """One part of a DNS name."""
    return len(text) <= 63 and bool(_LABEL.match(text))


def is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _labels_problem(domain: str) -> str:
    parts = domain.split(".")
    if re.fullmatch(r"[-+]?\d+", parts[-1]):
        return f"{domain!r} is not a host name: its last part {parts[-1]!r} is a number"
    bad = next((part for part in (parts[:-1] if parts[-1] == "" else parts) if not is_label(part)), None)
    return f"{domain!r} is not a host name: its part {bad!r} is no DNS label" if bad is not None else ""


def _length_problem(host: str) -> str:
    if not host:
        return "a host name must not be empty"
    return f"{host[:40]!r}… is longer than the 255 characters that DNS allows" if len(host) > 255 else ""


def name_problem(host: str) -> str:
    """Why `host` is no full domain name; "" when it is."""
    return _length_problem(host) or _labels_problem(host)


def host_problem(host: str) -> str:
    """Why `host` is no domain name, with or without a wildcard in its first label; "" when it is."""
    first, dot, rest = host.partition(".")
    if problem := _length_problem(host):
        return problem
    if len(first) > 63 or not _WILDCARD_LABEL.match(first):
        return f"{host!r} is not a host name: its part {first!r} is no DNS label"
    return _labels_problem(rest) if dot else ""


def sni_problem(host: str) -> str:
    """For gateways: `outbound_.80_.v1_.HOST` is a name too."""
    if not host.startswith("outbound_"):
        return host_problem(host)
    parts = host.split("_")
    fits = len(parts) >= 4 and parts[0] == "outbound" and re.search(r"\d", parts[1]) and re.search("[a-zA-Z]", parts[3])
    return "" if fits else f"{host!r} should have the form outbound_.PORT_.SUBSET_.HOST"


def server_host_problem(host: str) -> str:
    """Why `[namespace/]dnsName` may not stand in a Gateway's server; "" when it may."""
    namespace, slash, name = host.rpartition("/")
    if slash and (not namespace or not name):
        return f"{host!r} should have the form namespace/dnsName"
    if slash and namespace not in ("*", ".") and not is_label(namespace):
        return f"{namespace!r} is not a namespace"
    if is_address(name):
        return ""
    if name != "*" and "." not in name:
        return f"{name!r} is a short name; write it in full, for example {name}.default.svc.cluster.local"
    return host_problem(name) or _partial_wildcard(name)


def _partial_wildcard(name: str) -> str:
    partial = "*" in name and name != "*" and not name.startswith("*.")
    return (
        f'partial wildcard "{name}" not allowed; a wildcard must be a whole label, as in *.example.com'
        if partial
        else ""
    )


def subnet_problem(text: str) -> str:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is neither an IP address nor a CIDR block"
    return ""


def port(path: str, number: int) -> Findings:
    if not 1 <= number <= 65535:
        yield Finding(path, f"port {number} is not in 1..65535")


def labels(path: str, values: Mapping[str, str]) -> Findings:
    for key, value in values.items():
        prefix, slash, name = key.rpartition("/")
        if (slash and name_problem(prefix)) or len(name) > 63 or not _LABEL_NAME.match(name):
            yield Finding(path, f"{key!r} is not a label name")
        if value and (len(value) > 63 or not _LABEL_NAME.match(value)):
            yield Finding(join(path, key), f"{value!r} is not a label value")


def matched_header_problem(name: str) -> str:
    """Why a match may not ask for this header; "" when it may."""
    if not name:
        return "a header name must not be empty"
    known = name in _PSEUDO_HEADERS or is_claim(name) or _HEADER_NAME.match(name)
    return "" if known else f"{name!r} is not a header name"


def is_claim(name: str) -> bool:
    """`@request.auth.claims.NAME`: a claim of the request's JWT, not a header."""
    return bool(claim_path(name))


def is_authority(name: str) -> bool:
    return name.lower() in (":authority", "host")


def changed_header_problem(name: str, may_set_authority: bool) -> str:
    """Why a header operation may not name this header; "" when it may."""
    if not name:
        return "a header name must not be empty"
    if is_authority(name):
        return "" if may_set_authority else f"{name!r} cannot be changed here; only requests may add or set it"
    return f"{name!r} is a pseudo header and cannot be changed" if name.startswith(":") else ""


def header_value_problem(value: str) -> str:
    if _CONTROL.search(value):
        return f"{value!r} holds a control character"
    return (
        ""
        if _HEADER_VALUE.match(value)
        else f"{value!r} has a single %; write %% for a percent sign, %NAME% for a value"
    )


_GO_ONLY = (
    (re.compile(r"\\Q(.*?)(?:\\E|\Z)", re.DOTALL), lambda found: re.escape(found[1])),
    (re.compile(r"\\z"), lambda found: r"\Z"),
    (re.compile(r"\\[pP](?:\{\^?\w+\}|\w)"), lambda found: "a"),
    (re.compile(r"\[:\^?\w+:\]"), lambda found: "a-z"),
    (re.compile(r"\(\?<(?=[A-Za-z_])"), lambda found: "(?P<"),
    (re.compile(r"\(\?[imsU]*(?:-[imsU]+)?\)"), lambda found: ""),
    (re.compile(r"\(\?[imsU]*(?:-[imsU]+)?:"), lambda found: "(?:"),
)
_NOT_RE2 = re.compile(r"\(\?(?:[=!>(#]|<[=!]|P=|P>)|(?:[*+?]|\{\d+(?:,\d*)?\})\+")
_BACK_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\\[1-9]")
_REPEAT = re.compile(r"\{(\d+)(?:,(\d*))?\}")


def regex_problem(regex: str) -> str:
    """Why RE2 would not take this; "" when it would. Go's syntax is translated and tried with Python's own engine."""
    if not regex:
        return "a regular expression must not be empty"
    if len(regex) > _LONGEST_REGEX:
        return f"the regular expression has {len(regex)} characters; {_LONGEST_REGEX} are allowed"
    if _NOT_RE2.search(regex) or _BACK_REFERENCE.search(regex):
        return f"{regex!r} uses lookaround, back references or possessive repeats, which RE2 does not have"
    if any(int(number) > 1000 for found in _REPEAT.finditer(regex) for number in found.groups() if number):
        return f"{regex!r} repeats more than 1000 times, which RE2 refuses"
    return _compile_problem(regex)


def _compile_problem(regex: str) -> str:
    translated = regex
    for pattern, replacement in _GO_ONLY:
        translated = pattern.sub(replacement, translated)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # nested sets mean the same in RE2 as in Python today
            re.compile(translated)
    except re.error as error:
        return f"{regex!r} is not a regular expression (RE2): {error}"
    return ""


def export_to(path: str, names: tuple[str, ...], namespace: str, selects_workloads: bool = False) -> Findings:
    resolved = [namespace if name == "." else name for name in names]
    for index, (said, name) in enumerate(zip(names, resolved, strict=True)):
        here = join(path, index)
        if name in resolved[:index]:
            yield Finding(here, f"{said!r} says the same as an entry before it")
        elif name == "~":
            yield Finding(here, "`~` (no one) is not allowed here; use `.` for this namespace alone")
        elif name != "*" and not is_label(name):
            yield Finding(here, f"{name!r} is not a namespace; write `.`, `*` or a namespace's name")
    if "*" in resolved and len(names) > 1:
        yield Finding(path, "`*` already means everyone; remove the other entries")
    if selects_workloads and names and resolved != [namespace]:
        yield Finding(
            path, "a rule with a workloadSelector holds in its own namespace alone; write `.` or leave it out"
        )
