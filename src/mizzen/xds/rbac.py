"""AuthorizationPolicies as Envoy's RBAC rules, for requests and for connections.

https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/rbac/v3/rbac.proto
A condition that cannot be matched (one about HTTP on a connection, or one that is no condition) never helps to allow
and never to escape a denial: a rule that allows is dropped, any other rule loses the condition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

from mizzen.api.authorization import AuthorizationPolicy, Condition, Operation, Rule, Source
from mizzen.api.conditions import METADATA, is_template, parse_key, quoted, template_regex
from mizzen.envoy.messages import Message, RbacPolicy
from mizzen.scope.decision import Reason, principal_parts, with_aliases
from mizzen.xds.addresses import cidr_range
from mizzen.xds.kept import kept
from mizzen.xds.names import JWT_METADATA, PAYLOAD

Node: TypeAlias = dict[str, Any]
"""A Principal or a Permission."""

LONGEST_REGEX = 4096
"""Characters. The size of a program is bounded in the bootstrap, and a proxy refuses a whole slot for one beyond it."""


class _Void(ValueError):
    """This cannot be matched here."""


class _Words(NamedTuple):
    """Principals and permissions are joined alike, under other names."""

    every: str
    any: str
    members: str
    negated: str

    def all_of(self, nodes: list[Node]) -> Node:
        if len(nodes) == 1:
            return nodes[0]
        return {self.every: {self.members: nodes}} if nodes else {"any": True}

    def one_of(self, nodes: list[Node]) -> Node:
        if len(nodes) == 1:
            return nodes[0]
        return {self.any: {self.members: nodes}} if nodes else self.none_of({"any": True})

    def none_of(self, node: Node) -> Node:
        return {self.negated: node}


WHO = _Words("and_ids", "or_ids", "ids", "not_id")
WHAT = _Words("and_rules", "or_rules", "rules", "not_rule")


def policies(
    given: Iterable[AuthorizationPolicy],
    trust_domains: tuple[str, ...],
    *,
    http: bool,
    prefix: str = "",
    suffix: str = "",
) -> dict[str, Message]:
    """Every rule that can match, under Istio's name for it."""
    return {
        f"{prefix}{name}{suffix}": rule for policy in given for name, rule in _policy_rules(policy, trust_domains, http)
    }


@kept
def _policy_rules(policy: AuthorizationPolicy, trust_domains: tuple[str, ...], http: bool) -> list[tuple[str, Message]]:
    writer = _Writer(policy, trust_domains, http)
    found = ((index, writer.rule(rule)) for index, rule in enumerate(policy.spec.rules))
    return [(str(Reason(policy.namespace, policy.name, index)), rule) for index, rule in found if rule is not None]


class _Writer:
    def __init__(self, policy: AuthorizationPolicy, trust_domains: tuple[str, ...], http: bool) -> None:
        self._namespace = policy.namespace
        self._allows = policy.spec.action == "ALLOW"
        self._trust_domains = trust_domains
        self._http = http

    def rule(self, rule: Rule) -> Message | None:
        """None when it can match nothing."""
        try:
            who, what = self._conditions(rule.when)
            principals = [WHO.all_of([*self._source(one.source), *who]) for one in self._entries(rule.from_)]
            permissions = [WHAT.all_of([*self._operation(one.operation), *what]) for one in self._entries(rule.to)]
        except _Void:
            return None
        return RbacPolicy(
            principals=principals or [WHO.all_of(who)],
            permissions=permissions or [WHAT.all_of(what)],
        )

    def _entries(self, given: tuple[Any, ...] | None) -> tuple[Any, ...]:
        if given == ():
            self._void()
        return given or ()

    def _void(self) -> None:
        """Where something cannot be matched. Raises _Void when that must not be passed over."""
        if self._allows:
            raise _Void

    def _source(self, source: Source | None) -> list[Node]:
        if source is None or source == Source():
            self._void()
            return []
        both = self._principals
        return [
            *both(source.principals, source.not_principals, self._principal),
            *both(source.namespaces, source.not_namespaces, _in_namespace),
            *both(source.service_accounts, source.not_service_accounts, self._account),
            *both(source.trust_domains, source.not_trust_domains, self._trust_domain),
            *both(source.ip_blocks, source.not_ip_blocks, _direct_remote_ip),
            *both(source.remote_ip_blocks, source.not_remote_ip_blocks, _remote_ip),
            *both(source.request_principals, source.not_request_principals, self._for_http(_request_principal)),
        ]

    def _operation(self, operation: Operation | None) -> list[Node]:
        if operation is None or operation == Operation():
            self._void()
            return []
        both = self._permissions
        return [
            *both(operation.hosts, operation.not_hosts, self._for_http(_host)),
            *both(operation.ports, operation.not_ports, _destination_port),
            *both(operation.methods, operation.not_methods, self._for_http(_method)),
            *both(operation.paths, operation.not_paths, self._for_http(_path)),
        ]

    def _conditions(self, conditions: Iterable[Condition]) -> tuple[list[Node], list[Node]]:
        who: list[Node] = []
        what: list[Node] = []
        for condition in conditions:
            key = parse_key(condition.key)
            if key is None or not (condition.values or condition.not_values):
                self._void()
            elif key.attribute in _WHAT_KEYS:
                make = _WHAT_KEYS[key.attribute](key.arguments)
                what += self._permissions(condition.values, condition.not_values, make)
            else:
                make = self._who_key(key.attribute, key.arguments)
                who += self._principals(condition.values, condition.not_values, make)
        return who, what

    def _who_key(self, attribute: str, arguments: tuple[str, ...]) -> Callable[[str], Node]:
        of_connection: dict[str, Callable[[str], Node]] = {
            "source.ip": _direct_remote_ip,
            "remote.ip": _remote_ip,
            "source.namespace": _in_namespace,
            "source.principal": self._principal,
            "source.serviceAccount": self._account,
            "source.trustDomain": self._trust_domain,
        }
        if attribute in of_connection:
            return of_connection[attribute]
        return self._for_http(
            {
                "request.headers": lambda value: {"header": _header(arguments[0], value)},
                "request.auth.principal": _request_principal,
                "request.auth.audiences": lambda value: _claim(("aud",), value),
                "request.auth.presenter": lambda value: _claim(("azp",), value),
                "request.auth.claims": lambda value: _claim(arguments, value),
            }[attribute]
        )

    def _for_http(self, make: Callable[[str], Node]) -> Callable[[str], Node]:
        return make if self._http else _not_on_connections

    def _principals(
        self, wanted: tuple[str, ...], unwanted: tuple[str, ...], make: Callable[[str], Node]
    ) -> list[Node]:
        return self._both(WHO, wanted, unwanted, make)

    def _permissions(
        self, wanted: tuple[str, ...], unwanted: tuple[str, ...], make: Callable[[str], Node]
    ) -> list[Node]:
        return self._both(WHAT, wanted, unwanted, make)

    def _both(
        self, words: _Words, wanted: tuple[str, ...], unwanted: tuple[str, ...], make: Callable[[str], Node]
    ) -> list[Node]:
        """One of the wanted, none of the unwanted; an empty list asks nothing."""
        try:
            return list(_pair(words, [make(value) for value in wanted], [make(value) for value in unwanted]))
        except ValueError:
            self._void()
            return []

    # Nodes that depend on the policy or the mesh

    def _principal(self, value: str) -> Node:
        return WHO.one_of([_authenticated(_principal_text(one)) for one in with_aliases(value, self._trust_domains)])

    def _trust_domain(self, value: str) -> Node:
        domains = with_aliases(value, self._trust_domains)
        return WHO.one_of([_authenticated(_regex(f"spiffe://{_wild(one, '[^/]*')}/.*")) for one in domains])

    def _account(self, value: str) -> Node:
        namespace, _, name = value.rpartition("/")
        if "*" in value or not name or namespace.count("/"):
            raise _Void
        where, who = quoted(namespace or self._namespace), quoted(name)
        return _authenticated(_regex(f"spiffe://.+/ns/{where}/(.+/|)sa/{who}(/.+)?"))


def _pair(words: _Words, wanted: list[Node], unwanted: list[Node]) -> Iterator[Node]:
    if wanted:
        yield words.one_of(wanted)
    if unwanted:
        yield words.none_of(words.one_of(unwanted))


def _not_on_connections(_: str) -> Node:
    raise _Void


def _authenticated(matcher: Node) -> Node:
    return {"authenticated": {"principal_name": matcher}}


def _principal_text(value: str) -> Node:
    """Of a SPIFFE id, whose scheme policies leave out."""
    if value == "*":
        return _regex("spiffe://.+")
    if value.startswith("*"):
        return _regex(f"spiffe://.*{quoted(value[1:])}")
    return string_matcher(f"spiffe://{value}")


def _in_namespace(value: str) -> Node:
    return _authenticated(_regex(f"spiffe://.*/ns/{_wild(value, '.*')}/.*"))


def _wild(value: str, anything: str) -> str:
    return anything.join(map(quoted, value.split("*")))


def _direct_remote_ip(value: str) -> Node:
    return {"direct_remote_ip": cidr_range(value)}


def _remote_ip(value: str) -> Node:
    return {"remote_ip": cidr_range(value)}


def _request_principal(value: str) -> Node:
    return WHO.one_of([WHO.all_of([_claim_text("iss", a), _claim_text("sub", b)]) for a, b in principal_parts(value)])


def _claim_text(name: str, value: str) -> Node:
    return _payload((name,), {"string_match": string_matcher(value)})


def _claim(path: tuple[str, ...], value: str) -> Node:
    """A claim that is this text, or a list that holds it."""
    match = {"string_match": string_matcher(value)}
    return WHO.one_of([_payload(path, match), _payload(path, {"list_match": {"one_of": match}})])


def _payload(path: tuple[str, ...], value: Node) -> Node:
    return {"sourced_metadata": {"metadata_matcher": _metadata(JWT_METADATA, (PAYLOAD, *path), value)}}


def _metadata(filter: str, path: Iterable[str], value: Node) -> Node:
    return {"filter": filter, "path": [{"key": step} for step in path], "value": value}


def _header(name: str, value: str, *, ignore_case: bool = False) -> Node:
    return {"name": name, "string_match": {**string_matcher(value), "ignore_case": ignore_case}}


def _host(value: str) -> Node:
    """A regular expression does not know of `ignore_case`, but the one for presence needs none."""
    return {"header": _header(":authority", value, ignore_case=value != "*")}


def _method(value: str) -> Node:
    return {"header": _header(":method", value)}


def _path(value: str) -> Node:
    matcher = _regex(template_regex(value)) if is_template(value) else string_matcher(value)
    return {"url_path": {"path": matcher}}


def _destination_port(value: str) -> Node:
    if not (value.isascii() and value.isdigit() and int(value) <= 65535):
        raise _Void
    return {"destination_port": int(value)}


def _envoy_metadata(arguments: tuple[str, ...]) -> Callable[[str], Node]:
    """`[v]` asks for a list that holds v."""

    def make(value: str) -> Node:
        listed = value.startswith("[") and value.endswith("]")
        match = {"string_match": string_matcher(value[1:-1] if listed else value)}
        wanted = {"list_match": {"one_of": match}} if listed else match
        return {"sourced_metadata": {"metadata_matcher": _metadata(arguments[0], arguments[1:], wanted)}}

    return make


_WHAT_KEYS: dict[str, Callable[[tuple[str, ...]], Callable[[str], Node]]] = {
    "destination.ip": lambda _: lambda value: {"destination_ip": cidr_range(value)},
    "destination.port": lambda _: _destination_port,
    "connection.sni": lambda _: lambda value: {"requested_server_name": string_matcher(value)},
    METADATA: _envoy_metadata,
}


def string_matcher(value: str) -> Node:
    """`*` anything but nothing, `x*` a beginning, `*x` an end, else all of it. Raises ValueError for no text at all."""
    if not value:
        raise _Void
    if value == "*":
        return _regex(".+")
    if value.startswith("*"):
        return {"suffix": value[1:]}
    if value.endswith("*"):
        return {"prefix": value[:-1]}
    return {"exact": value}


def _regex(pattern: str) -> Node:
    """Over line ends as well: a claim may hold some. Raises ValueError for one that Envoy would find too long."""
    if len(pattern) > LONGEST_REGEX:
        raise _Void
    return {"safe_regex": {"regex": f"(?s){pattern}"}}
