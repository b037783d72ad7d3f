"""DestinationRules: which one holds for a caller, how several merge, and the policy in force for a port and a subset.

https://istio.io/latest/docs/reference/config/networking/destination-rule/
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping

from mizzen.api.base import Model, Problem
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import DestinationRule, LoadBalancerSettings, SubsetSpec, TrafficPolicy
from mizzen.scope.hosts import HostIndex, full_name
from mizzen.scope.memo import Memo
from mizzen.scope.model import Source
from mizzen.scope.problems import problem
from mizzen.scope.snapshot import Snapshot, by_namespace
from mizzen.scope.visibility import Audience, audience


def source_of(rule: DestinationRule) -> Source:
    return Source(kind="DestinationRule", namespace=rule.namespace, name=rule.name)


class SubsetRule(Model):
    spec: SubsetSpec
    source: Source


class HostRule(Model):
    """What the DestinationRules of one namespace, for one host and one audience, say together."""

    host: str
    namespace: str
    audience: Audience
    selector: Mapping[str, str] | None
    """The client Pods it is for; None: all of them."""
    policy: TrafficPolicy | None
    policy_source: Source
    """Whose policy that is; without one, the oldest rule."""
    subsets: tuple[SubsetRule, ...]
    problems: tuple[Problem, ...] = ()

    def subset(self, name: str) -> SubsetRule | None:
        return next((subset for subset in self.subsets if subset.spec.name == name), None)


class NamespaceRules:
    """All DestinationRules of one namespace, merged and by host."""

    def __init__(self, namespace: str, given: Iterable[DestinationRule], export_default: tuple[str, ...]) -> None:
        rules = tuple(given)
        self.namespace = namespace
        together: dict[tuple[str, Audience, frozenset[tuple[str, str]] | None], list[DestinationRule]] = {}
        for rule in rules:
            host = full_name(rule.spec.host, namespace).lower()
            key = host, audience(rule.spec.export_to, namespace, export_default), _selector(rule)
            together.setdefault(key, []).append(rule)
        by_host: dict[str, tuple[HostRule, ...]] = {}
        for (host, seen_by, _), members in together.items():
            by_host[host] = (*by_host.get(host, ()), _merged(host, seen_by, members))
        self.index = HostIndex(by_host)
        self.rules = tuple(rule for rules in by_host.values() for rule in rules)
        self.same_for_all = all(rule.audience.everyone and rule.selector is None for rule in self.rules)
        self.asks_accounts = any(rule.spec.workload_selector and asks_for_credentials(rule) for rule in rules)
        """Whether a sidecar's service account decides what it gets."""
        self.labels = frozenset(label for rule in self.rules for label in rule.selector or ())
        self._namespaces = {host.split(".")[1] for host in self.index.exact if host.count(".") > 1}

    def touches(self, namespace: str) -> bool:
        """Whether some rule is about a host of that namespace; may err on the side of yes."""
        return bool(self.index.wildcards) or namespace in self._namespaces

    def find(self, host: str, client: str, labels: Mapping[str, str]) -> HostRule | None:
        """The rule for a client: one that selects it before one for all; of those for all, the youngest audience."""
        candidates = [rule for rule in self.index.get(host) or () if self._reaches(rule, client)]
        selecting = [rule for rule in candidates if rule.selector is not None]
        for rule in selecting:
            if self.namespace == client and rule.selector is not None and rule.selector.items() <= labels.items():
                return rule
        return next((rule for rule in reversed(candidates) if rule.selector is None), None)

    def _reaches(self, rule: HostRule, client: str) -> bool:
        return client == self.namespace or rule.audience.admits(client)


def _selector(rule: DestinationRule) -> frozenset[tuple[str, str]] | None:
    selector = rule.spec.workload_selector
    return frozenset(selector.match_labels.items()) if selector is not None else None


def _merged(host: str, seen_by: Audience, rules: list[DestinationRule]) -> HostRule:
    """Subsets are concatenated, oldest first; the first rule with a policy gives it whole."""
    with_policy = [rule for rule in rules if rule.spec.traffic_policy is not None]
    first = with_policy[0] if with_policy else rules[0]
    subsets: dict[str, SubsetRule] = {}
    for rule in rules:
        for spec in rule.spec.subsets:
            subsets.setdefault(spec.name, SubsetRule(spec=spec, source=source_of(rule)))
    selector = rules[0].spec.workload_selector
    return HostRule(
        host=host,
        namespace=rules[0].namespace,
        audience=seen_by,
        selector=selector.match_labels if selector is not None else None,
        policy=first.spec.traffic_policy,
        policy_source=source_of(first),
        subsets=tuple(subsets.values()),
        problems=(*_dropped_policies(host, with_policy), *_repeated_subsets(rules, subsets)),
    )


def _dropped_policies(host: str, with_policy: list[DestinationRule]) -> Iterable[Problem]:
    for rule in with_policy[1:]:
        oldest = with_policy[0]
        yield problem(
            rule,
            "MZ0001",
            "spec.trafficPolicy",
            f"The policy of DestinationRule {rule.namespace}/{rule.name} is not in force: DestinationRule "
            f"{oldest.namespace}/{oldest.name} is older and already sets one for {host}. Put both into one "
            "DestinationRule; the subsets of both rules hold.",
        )


def _repeated_subsets(rules: list[DestinationRule], kept: Mapping[str, SubsetRule]) -> Iterable[Problem]:
    for rule in rules:
        for index, spec in enumerate(rule.spec.subsets):
            owner = kept[spec.name].source
            if kept[spec.name].spec is not spec:
                yield problem(
                    rule,
                    "MZ0002",
                    f"spec.subsets[{index}]",
                    f"Subset {spec.name} is already defined by DestinationRule {owner.namespace}/{owner.name}, "
                    "which is the one in force; rename or remove this one.",
                )


def asks_for_credentials(rule: DestinationRule) -> bool:
    """Whether any part of it takes certificates from Secrets."""
    return any(True for _ in credential_names(rule))


def credential_names(rule: DestinationRule) -> Iterator[str]:
    policies = (rule.spec.traffic_policy, *(subset.traffic_policy for subset in rule.spec.subsets))
    for policy in policies:
        settings = [policy.tls, *(entry.tls for entry in policy.port_level_settings)] if policy is not None else []
        yield from (tls.credential_name for tls in settings if tls is not None and tls.credential_name)


class Rulebook:
    """Every namespace's rules."""

    def __init__(self, by_namespace: Mapping[str, NamespaceRules], root: str) -> None:
        self._by_namespace = by_namespace
        self._root = root
        self.uses_hashing = any(_hashes(rule) for rules in by_namespace.values() for rule in rules.rules)

    def of(self, namespace: str) -> NamespaceRules | None:
        return self._by_namespace.get(namespace)

    def __iter__(self) -> Iterator[NamespaceRules]:
        return iter(self._by_namespace.values())

    def places(self, client: str, owner: str) -> tuple[NamespaceRules, ...]:
        """Where to look, in order: the client's namespace, the service's, the mesh's root namespace."""
        local = self.of(client) if client != self._root else None
        relevant = local if local is not None and local.touches(owner) else None
        places = (relevant, self.of(owner), self.of(self._root))
        return tuple(dict.fromkeys(place for place in places if place is not None))


class Lookup:
    """The rules that may hold for one client namespace towards the services of one other; first hit wins whole."""

    def __init__(self, client: str, labels: frozenset[tuple[str, str]], *places: NamespaceRules) -> None:
        self._client = client
        self._labels = dict(labels)
        self._places = places

    def rule(self, host: str) -> HostRule | None:
        found = (place.find(host, self._client, self._labels) for place in self._places)
        return next((rule for rule in found if rule is not None), None)


def lookup(memo: Memo, book: Rulebook, client: str, labels: frozenset[tuple[str, str]], owner: str) -> Lookup:
    """One object for all clients who get the same rules about the services of `owner`."""
    places = book.places(client, owner)
    if all(place.same_for_all for place in places):
        client, labels = "", frozenset()
    return memo(Lookup, client, labels, *places)


def _hashes(rule: HostRule) -> bool:
    policies = [rule.policy, *(subset.spec.traffic_policy for subset in rule.subsets)]
    balancers: list[LoadBalancerSettings | None] = []
    for policy in policies:
        if policy is not None:
            balancers += [policy.load_balancer, *(entry.load_balancer for entry in policy.port_level_settings)]
    return any(balancer is not None and balancer.consistent_hash is not None for balancer in balancers)


def rulebook(snapshot: Snapshot) -> Rulebook:
    """All DestinationRules, merged per namespace; a namespace in which nothing changed keeps its object."""
    memo, mesh = snapshot.memo, snapshot.mesh
    return memo(_rulebook, memo, snapshot.table(DestinationRule).grouped(by_namespace), mesh)


def _rulebook(memo: Memo, groups: Mapping[Hashable, tuple[DestinationRule, ...]], mesh: MeshConfig) -> Rulebook:
    default = mesh.default_destination_rule_export_to
    names = sorted(map(str, groups))
    rules = {name: memo(NamespaceRules, name, groups[name], default) for name in names}
    return Rulebook(rules, mesh.root_namespace)


def beside_others(snapshot: Snapshot, rule: DestinationRule) -> tuple[Problem, ...]:
    """What a rule, stored or about to be, does not get because of older ones for its host."""
    stored = snapshot.table(DestinationRule).grouped(by_namespace).get(rule.namespace, ())
    members = [rule if one.name == rule.name else one for one in stored]
    if rule not in members:
        members.append(rule)
    merged = NamespaceRules(rule.namespace, members, snapshot.mesh.default_destination_rule_export_to).rules
    return tuple(found for one in merged for found in one.problems if found.name == rule.name)
