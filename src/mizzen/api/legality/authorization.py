"""AuthorizationPolicy."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_network

from msgspec.structs import fields

from mizzen.api.authorization import (
    AuthorizationPolicy,
    AuthorizationPolicySpec,
    Condition,
    Operation,
    PolicyTargetReference,
    RequestAuthenticationSpec,
    Rule,
    Source,
)
from mizzen.api.conditions import ADDRESSES, HTTP_ONLY, IDENTITY, TOKEN, parse_key, template_problem
from mizzen.api.legality.finding import Finding, Findings, warning
from mizzen.api.legality.selectors import match_labels

TARGETS = frozenset(
    {
        ("gateway.networking.k8s.io", "Gateway"),
        ("gateway.networking.k8s.io", "GatewayClass"),
        ("", "Service"),
        ("core", "Service"),
        ("networking.istio.io", "ServiceEntry"),
    }
)
LONGEST = 2000
_IDENTITY_FIELDS = ("principals", "namespaces", "serviceAccounts", "trustDomains", "requestPrincipals")
_ADDRESS_FIELDS = ("ipBlocks", "notIpBlocks", "remoteIpBlocks", "notRemoteIpBlocks")


def authorization_policy(obj: AuthorizationPolicy) -> Findings:
    spec = obj.spec
    yield from scope(spec)
    yield from _provider(spec)
    if spec.action in ("DENY", "CUSTOM") and not spec.rules:
        yield Finding(
            "spec.rules", f"a {spec.action} policy without rules is meaningless as it will never be triggered"
        )
    for index, rule in enumerate(spec.rules):
        yield from _rule(f"spec.rules[{index}]", rule, spec.action)
    if spec.action == "DENY" and any(_http_only(rule) for rule in spec.rules):
        yield warning(
            "spec.rules", "rules with HTTP fields will deny all traffic to TCP ports under its scope; name `ports` too"
        )


def scope(spec: AuthorizationPolicySpec | RequestAuthenticationSpec) -> Findings:
    """Selector and targets."""
    if spec.selector is not None:
        yield from match_labels("spec.selector", spec.selector)
    if spec.target_ref is not None:
        yield from _target("spec.targetRef", spec.target_ref)
    for index, target in enumerate(spec.target_refs or ()):
        yield from _target(f"spec.targetRefs[{index}]", target)


def _target(path: str, target: PolicyTargetReference) -> Findings:
    if target.namespace:
        yield Finding(f"{path}.namespace", "a policy targets what is in its own namespace; remove `namespace`")
    if (target.group, target.kind) not in TARGETS:
        yield Finding(path, f"{target.kind} of group {target.group!r} is nothing that a policy can target")


def _provider(spec: AuthorizationPolicySpec) -> Findings:
    if spec.action == "CUSTOM" and (spec.provider is None or not spec.provider.name):
        yield Finding("spec.provider.name", "a CUSTOM policy names one of the mesh's extensionProviders")
    if spec.action != "CUSTOM" and spec.provider is not None:
        yield Finding("spec.provider", "only a CUSTOM policy has a provider")


def _rule(path: str, rule: Rule, action: str) -> Findings:
    for name, entries in (("from", rule.from_), ("to", rule.to)):
        if entries == ():
            yield Finding(f"{path}.{name}", f"`{name}` must not be empty; leave it out when it does not matter")
    for index, one in enumerate(rule.from_ or ()):
        here = f"{path}.from[{index}].source"
        if one.source is None or one.source == Source():
            yield Finding(here, "a source must say something")
        else:
            yield from _source(here, one.source, action)
    for index, to in enumerate(rule.to or ()):
        here = f"{path}.to[{index}].operation"
        if to.operation is None or to.operation == Operation():
            yield Finding(here, "an operation must say something")
        else:
            yield from _operation(here, to.operation)
    for index, condition in enumerate(rule.when):
        yield from _condition(f"{path}.when[{index}]", condition, action)


def _source(path: str, source: Source, action: str) -> Findings:
    given = _fields(source)
    yield from _no_empty_text(path, given)
    accounts = source.service_accounts or source.not_service_accounts
    if accounts and (source.principals or source.not_principals or source.namespaces or source.not_namespaces):
        yield Finding(path, "Cannot set serviceAccounts with namespaces or principals")
    for account in (*source.service_accounts, *source.not_service_accounts):
        yield from _account(path, account)
    for name in _ADDRESS_FIELDS:
        for block in given[name]:
            yield from _address(f"{path}.{name}", block)
    if action == "CUSTOM":
        named = [(name, f"not{name[0].upper()}{name[1:]}") for name in _IDENTITY_FIELDS]
        for name in (name for pair in named for name in pair if given[name]):
            yield Finding(path, f"a CUSTOM policy is asked before anyone is identified, so {name} cannot be used")


def _fields(given: Source | Operation) -> dict[str, tuple[str, ...]]:
    """By the names that users write."""
    return {written: getattr(given, name) for name, written in _names(type(given))}


@cache
def _names(struct: type[Source] | type[Operation]) -> tuple[tuple[str, str], ...]:
    return tuple((field.name, field.encode_name) for field in fields(struct))


def _account(path: str, account: str) -> Findings:
    if "*" in account:
        yield Finding(path, f"service account {account!r}: wildcards are not possible here")
    if account.count("/") > 1 or not all(account.split("/")):
        yield Finding(path, f"service account {account!r}: write NAME or NAMESPACE/NAME")


def _address(path: str, block: str) -> Findings:
    try:
        ip_network(block, strict=False)
    except ValueError:
        yield Finding(path, f"{block!r} is neither an address nor a range such as 10.0.0.0/8")


def _operation(path: str, operation: Operation) -> Findings:
    yield from _no_empty_text(path, _fields(operation))
    for port in (*operation.ports, *operation.not_ports):
        yield from _port(path, port)
    for template in (*operation.paths, *operation.not_paths):
        if ("{" in template or "}" in template) and (problem := template_problem(template)):
            yield Finding(path, f"path {template!r}: {problem}")


def _port(path: str, port: str) -> Findings:
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        yield Finding(path, f"{port!r} is not a port (1..65535, as text)")


def _condition(path: str, condition: Condition, action: str) -> Findings:
    key = parse_key(condition.key)
    if key is None:
        yield Finding(f"{path}.key", f"{condition.key!r} is no key of a condition")
        return
    values = (*condition.values, *condition.not_values)
    if not values:
        yield Finding(path, "at least one of values and notValues is needed")
    yield from _no_empty_text(path, {"values": condition.values, "notValues": condition.not_values})
    if key.attribute in ADDRESSES:
        for value in values:
            yield from _address(path, value)
    if key.attribute == "destination.port":
        for value in values:
            yield from _port(path, value)
    if action == "CUSTOM" and key.attribute in IDENTITY | TOKEN:
        yield Finding(
            f"{path}.key", f"a CUSTOM policy is asked before anyone is identified: {condition.key} cannot be used"
        )


def _no_empty_text(path: str, given: dict[str, tuple[str, ...]]) -> Findings:
    for name, values in given.items():
        if any(len(value) > LONGEST for value in values):
            yield Finding(path, f"{name} holds a text of more than {LONGEST} characters, which no proxy can match")
        if "" in values:
            yield Finding(path, f"{name} must not hold empty text")


def _http_only(rule: Rule) -> bool:
    """Whether it loses a condition on TCP ports, and does not say which ports it is about."""
    operations = [to.operation for to in rule.to or () if to.operation]
    if operations and all(operation.ports for operation in operations):
        return False
    sources = [one.source for one in rule.from_ or () if one.source]
    keys = [parse_key(condition.key) for condition in rule.when]
    return (
        any(
            one.hosts or one.not_hosts or one.methods or one.not_methods or one.paths or one.not_paths
            for one in operations
        )
        or any(one.request_principals or one.not_request_principals for one in sources)
        or any(key is not None and key.attribute in HTTP_ONLY for key in keys)
    )
