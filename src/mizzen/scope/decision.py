"""The documented meaning of AuthorizationPolicies, in plain Python: may this request enter, and who says so?

Nothing here knows how Envoy is told. Tests compare this with a real Envoy, and `explain` says with it which line of the
user's YAML decided.
https://istio.io/latest/docs/reference/config/security/authorization-policy/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from mizzen.api.authorization import AuthorizationPolicy, Condition, Operation, Rule, Source
from mizzen.api.base import Model
from mizzen.api.conditions import METADATA, is_template, parse_key, template_regex
from mizzen.scope.model import Guards

ALWAYS_SPLIT = ("scope", "permission")
"""Claims that hold several values with spaces between."""
ROOT_DOMAIN = "cluster.local"
"""In a policy this always means the mesh's own trust domain."""


class Request(Model):
    """One request, or (without `http`) one connection, as the workload's proxy sees it."""

    http: bool = True
    source: str = "127.0.0.1"
    """The address that the connection comes from."""
    remote: str = "127.0.0.1"
    """The client's, after trusted X-Forwarded-For."""
    destination: str = "127.0.0.1"
    port: int = 80
    peer: str = ""
    """The SPIFFE id of the caller's certificate; "" without one."""
    sni: str = ""
    method: str = "GET"
    path: str = "/"
    """Normalized, with the query."""
    host: str = ""
    """Authority, with its port if it was sent."""
    headers: tuple[tuple[str, str], ...] = ()
    """Names in lower case, in their order; a name may stand several times."""
    claims: Mapping[str, Any] = {}
    """Of the valid token; {} without one."""


class Verdict(StrEnum):
    ALLOW = "ALLOW"
    DENY = "DENY"
    ASK = "CUSTOM"
    """What the authorizer says; if that is yes, the rest decides."""


class Reason(NamedTuple):
    """One rule of one policy."""

    namespace: str
    name: str
    rule: int

    def __str__(self) -> str:
        return f"ns[{self.namespace}]-policy[{self.name}]-rule[{self.rule}]"


class Decision(NamedTuple):
    verdict: Verdict
    because: tuple[Reason, ...] = ()
    """All rules of the deciding action that match; () when it was that none does."""
    asks: bool = False
    """Whether an authorizer has to say yes, too."""


def decide(guards: Guards, request: Request) -> Decision:
    """CUSTOM, then DENY, then ALLOW; no ALLOW policy at all means allowed."""
    enforced = [policy for policy in guards.policies if not policy.dry_run]
    custom = _matching(enforced, "CUSTOM", request, guards)
    if custom and guards.authorizer is None:
        return Decision(Verdict.DENY, custom)
    denied = _matching(enforced, "DENY", request, guards)
    if denied:
        return Decision(Verdict.DENY, denied, bool(custom))
    allowed = _matching(enforced, "ALLOW", request, guards)
    if allowed or not any(policy.spec.action == "ALLOW" for policy in enforced):
        return Decision(Verdict.ASK if custom else Verdict.ALLOW, allowed, bool(custom))
    return Decision(Verdict.DENY, (), bool(custom))


def audited(guards: Guards, request: Request) -> tuple[Reason, ...]:
    """The rules of AUDIT policies that match."""
    return _matching(guards.policies, "AUDIT", request, guards)


def _matching(
    policies: Iterable[AuthorizationPolicy], action: str, request: Request, guards: Guards
) -> tuple[Reason, ...]:
    return tuple(
        Reason(policy.namespace, policy.name, index)
        for policy in policies
        if policy.spec.action == action
        for index, rule in enumerate(policy.spec.rules)
        if _Asked(request, policy.namespace, guards, allows=action == "ALLOW").rule(rule)
    )


class _Asked:
    """One request, in the light of one policy."""

    def __init__(self, request: Request, namespace: str, guards: Guards, *, allows: bool) -> None:
        self.request = request
        self.namespace = namespace
        self.trust_domains = guards.trust_domains
        rules = (rule for one in guards.authentications for rule in one.spec.jwt_rules)
        self.lists = {*ALWAYS_SPLIT, *(name for rule in rules for name in rule.space_delimited_claims)}
        self.undecided = not allows
        """What a condition counts for that cannot be judged: it never helps to allow, nor to escape a denial."""

    def rule(self, rule: Rule) -> bool:
        if self._spoiled(rule):
            return False
        sources = [self._source(one.source) for one in rule.from_ or ()]
        operations = [self._operation(one.operation) for one in rule.to or ()]
        return (
            (rule.from_ is None or any(sources or [self.undecided]))
            and (rule.to is None or any(operations or [self.undecided]))
            and all(self._condition(condition) for condition in rule.when)
        )

    def _spoiled(self, rule: Rule) -> bool:
        """On a connection, a rule that allows and speaks of HTTP anywhere is void."""
        return not self.request.http and not self.undecided and _speaks_of_http(rule)

    def _source(self, source: Source | None) -> bool:
        if source is None or source == Source():
            return self.undecided
        return (
            self._identity(source)
            and self._pair(source.ip_blocks, source.not_ip_blocks, lambda block: _within(self.request.source, block))
            and self._pair(
                source.remote_ip_blocks, source.not_remote_ip_blocks, lambda block: _within(self.request.remote, block)
            )
            and self._http(source.request_principals, source.not_request_principals, self._request_principal)
        )

    def _identity(self, source: Source) -> bool:
        return (
            self._pair(source.principals, source.not_principals, self._principal)
            and self._pair(source.namespaces, source.not_namespaces, self._in_namespace)
            and self._pair(source.service_accounts, source.not_service_accounts, self._account)
            and self._pair(source.trust_domains, source.not_trust_domains, self._trust_domain)
        )

    def _operation(self, operation: Operation | None) -> bool:
        if operation is None or operation == Operation():
            return self.undecided
        request = self.request
        return (
            self._http(operation.hosts, operation.not_hosts, lambda host: text(host.lower(), request.host.lower()))
            and self._pair(operation.ports, operation.not_ports, lambda port: int(port) == request.port)
            and self._http(operation.methods, operation.not_methods, lambda method: text(method, request.method))
            and self._http(operation.paths, operation.not_paths, self._path)
        )

    def _condition(self, condition: Condition) -> bool:
        key = parse_key(condition.key)
        if key is None or not (condition.values or condition.not_values):
            return self.undecided
        pair = self._http if key.attribute in _HTTP_KEYS else self._pair
        return pair(condition.values, condition.not_values, self._value_test(key.attribute, key.arguments))

    def _value_test(self, attribute: str, arguments: tuple[str, ...]) -> Callable[[str], bool]:
        request = self.request
        tests: dict[str, Callable[[str], bool]] = {
            "source.ip": lambda block: _within(request.source, block),
            "remote.ip": lambda block: _within(request.remote, block),
            "destination.ip": lambda block: _within(request.destination, block),
            "destination.port": lambda port: int(port) == request.port,
            "connection.sni": lambda name: text(name, request.sni),
            "source.namespace": self._in_namespace,
            "source.principal": self._principal,
            "source.serviceAccount": self._account,
            "source.trustDomain": self._trust_domain,
            "request.headers": lambda value: any(
                text(value, given) for name, given in request.headers if name == arguments[0].lower()
            ),
            "request.auth.principal": self._request_principal,
            "request.auth.audiences": lambda value: self._claim(("aud",), value),
            "request.auth.presenter": lambda value: self._claim(("azp",), value),
            "request.auth.claims": lambda value: self._claim(arguments, value),
            METADATA: lambda _: False,
        }
        return tests[attribute]

    def _pair(self, wanted: tuple[str, ...], unwanted: tuple[str, ...], holds: Callable[[str], bool]) -> bool:
        """One of the wanted, none of the unwanted; an empty list asks nothing. A value that is none spoils both."""
        try:
            having, lacking = [holds(value) for value in wanted], [holds(value) for value in unwanted]
        except ValueError:
            return self.undecided
        return (not having or any(having)) and not any(lacking)

    def _http(self, wanted: tuple[str, ...], unwanted: tuple[str, ...], holds: Callable[[str], bool]) -> bool:
        if self.request.http:
            return self._pair(wanted, unwanted, holds)
        return not (wanted or unwanted) or self.undecided

    # Tests of one value

    def _principal(self, wanted: str) -> bool:
        peer = self.request.peer.removeprefix("spiffe://")
        return any(text(one, peer) for one in with_aliases(wanted, self.trust_domains))

    def _in_namespace(self, wanted: str) -> bool:
        found = re.search(r"/ns/(.*)", self.request.peer)
        return found is not None and any(_wild(wanted, found[1][: end.start()]) for end in re.finditer("/", found[1]))

    def _account(self, wanted: str) -> bool:
        namespace, _, name = wanted.rpartition("/")
        namespace = namespace or self.namespace
        parts = self.request.peer.split("/")
        return any(
            parts[at : at + 2] == ["ns", namespace] and parts[after : after + 2] == ["sa", name]
            for at in range(3, len(parts))
            for after in range(at + 2, len(parts))
        )

    def _trust_domain(self, wanted: str) -> bool:
        if not self.request.peer:
            return False
        own = self.request.peer.removeprefix("spiffe://").partition("/")[0]
        return any(_wild(one, own) for one in with_aliases(wanted, self.trust_domains))

    def _request_principal(self, wanted: str) -> bool:
        issuer, subject = (self.request.claims.get(name) for name in ("iss", "sub"))
        if not (isinstance(issuer, str) and isinstance(subject, str) and issuer and subject):
            return False
        return any(text(a, issuer) and text(b, subject) for a, b in principal_parts(wanted))

    def _claim(self, path: tuple[str, ...], wanted: str) -> bool:
        """Whether a claim is this text, or a list that holds it."""
        found: Any = self.request.claims
        for step in path:
            found = found.get(step) if isinstance(found, Mapping) else None
        if isinstance(found, str) and path[0] in self.lists:
            found = found.split(" ")
        values = found if isinstance(found, list) else [found]
        return any(isinstance(value, str) and text(wanted, value) for value in values)

    def _path(self, wanted: str) -> bool:
        path = re.split("[?#]", self.request.path, maxsplit=1)[0]
        if is_template(wanted):
            return re.fullmatch(template_regex(wanted), path, re.DOTALL) is not None
        return text(wanted, path)


def text(pattern: str, value: str) -> bool:
    """`*` anything but nothing, `x*` a beginning, `*x` an end, else all of it."""
    if pattern == "*":
        return value != ""
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern


def _wild(pattern: str, value: str) -> bool:
    """`*` stands for any text, wherever it stands."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), value, re.DOTALL) is not None


def with_aliases(pattern: str, trust_domains: tuple[str, ...]) -> tuple[str, ...]:
    """A principal or trust domain of the mesh is meant under all the names that the mesh has."""
    domain, slash, rest = pattern.partition("/")
    if domain not in (ROOT_DOMAIN, *trust_domains):
        return (pattern,)
    return tuple(f"{one}{slash}{rest}" for one in trust_domains)


def principal_parts(pattern: str) -> tuple[tuple[str, str], ...]:
    """Patterns of issuer and subject, one pair of which must hold; `ISSUER/SUBJECT` is cut at its last `/`."""
    issuer, slash, subject = pattern.rpartition("/")
    if pattern == "*":
        return (("*", "*"),)
    split = ((issuer, subject),) if slash and issuer and subject else ()
    if pattern.endswith("*") and not pattern.endswith("/*") and not pattern.startswith("*"):
        return ((pattern, "*"), *split)
    if pattern.startswith("*") and not pattern.startswith("*/"):
        return (("*", pattern), *split)
    return split


def _within(address: str, block: str) -> bool:
    """Raises ValueError for what is no block."""
    return ip_address(address) in ip_network(block, strict=False)


_HTTP_KEYS = frozenset(
    {
        "request.headers",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
        "request.auth.claims",
    }
)


def _speaks_of_http(rule: Rule) -> bool:
    sources = [one.source for one in rule.from_ or () if one.source]
    operations = [one.operation for one in rule.to or () if one.operation]
    keys = [parse_key(condition.key) for condition in rule.when]
    return (
        any(one.request_principals or one.not_request_principals for one in sources)
        or any(one.hosts or one.not_hosts or one.methods or one.not_methods for one in operations)
        or any(one.paths or one.not_paths for one in operations)
        or any(key is not None and key.attribute in _HTTP_KEYS for key in keys)
    )
