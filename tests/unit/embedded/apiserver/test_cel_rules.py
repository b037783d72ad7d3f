"""CEL rules of CustomResourceDefinitions, after what Kubernetes' documentation says of them."""

from __future__ import annotations

import pytest

from mizzen.embedded.apiserver import cel_rules
from mizzen.kube.api import JSON

INTEGER, TEXT = {"type": "integer"}, {"type": "string"}


def spec(rules: list[JSON], **properties: JSON) -> JSON:
    node = {"type": "object", "properties": properties, "x-kubernetes-validations": rules}
    return {"type": "object", "properties": {"spec": node}}


def obj(**fields: object) -> JSON:
    return {"apiVersion": "example.com/v1", "kind": "W", "metadata": {"name": "w"}, "spec": fields}


def messages(schema: JSON, new: JSON, old: JSON | None = None) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in cel_rules.check(schema, new, old)]


def test_a_rule_holds_or_is_told() -> None:
    schema = spec([{"rule": "self.low <= self.high", "message": "low is above high"}], low=INTEGER, high=INTEGER)
    assert messages(schema, obj(low=1, high=2)) == []
    assert messages(schema, obj(low=3, high=2)) == ['spec: Invalid value: "object": low is above high']


def test_without_a_message_the_rule_speaks() -> None:
    schema = spec([{"rule": "size(self.name) > 2"}], name=TEXT)
    assert messages(schema, obj(name="a")) == ['spec: Invalid value: "object": failed rule: size(self.name) > 2']


def test_message_expression_reason_and_field_path() -> None:
    rule = {
        "rule": "self.n < 5",
        "messageExpression": "'n is ' + string(self.n)",
        "reason": "FieldValueForbidden",
        "fieldPath": ".n",
    }
    (cause,) = cel_rules.check(spec([rule], n=INTEGER), obj(n=7), None)
    assert (cause.reason, cause.field, cause.message) == ("FieldValueForbidden", "spec.n", "Forbidden: n is 7")


def test_transition_rules_look_back() -> None:
    fixed = {**TEXT, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "fixed"}]}
    schema = spec([], name=fixed)
    assert messages(schema, obj(name="a")) == []
    assert messages(schema, obj(name="b"), obj()) == []
    assert messages(schema, obj(name="a"), obj(name="a")) == []
    assert messages(schema, obj(name="b"), obj(name="a")) == ['spec.name: Invalid value: "string": fixed']


def test_optional_old_self_sees_creation() -> None:
    rule = {"rule": "oldSelf.hasValue() || self.n == 0", "optionalOldSelf": True, "message": "begin with 0"}
    schema = spec([rule], n=INTEGER)
    assert messages(schema, obj(n=1)) == ['spec: Invalid value: "object": begin with 0']
    assert messages(schema, obj(n=1), obj(n=0)) == []


def test_items_are_found_again_by_their_keys() -> None:
    item = {
        "type": "object",
        "properties": {"name": TEXT, "port": INTEGER},
        "x-kubernetes-validations": [{"rule": "self.port >= oldSelf.port", "message": "ports grow"}],
    }
    ports = {"type": "array", "items": item}
    keyed = {**ports, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}
    old = obj(ports=[{"name": "a", "port": 5}, {"name": "b", "port": 1}])
    new = obj(ports=[{"name": "b", "port": 2}, {"name": "a", "port": 4}])
    assert messages(spec([], ports=keyed), new, old) == ['spec.ports[1]: Invalid value: "object": ports grow']
    assert messages(spec([], ports=ports), new, old) == []


def test_what_was_wrong_before_may_stay() -> None:
    schema = spec([{"rule": "self.n < 5"}], n=INTEGER)
    assert messages(schema, obj(n=7), obj(n=7)) == []
    assert len(messages(schema, obj(n=8), obj(n=7))) == 1


@pytest.mark.parametrize(
    ("rule", "fields", "holds"),
    [
        ("self.__namespace__ == 'x'", {"namespace": "x"}, True),
        ("self.a__dash__b == 'x'", {"a-b": "x"}, True),
        ("has(self.name) ? self.name.startsWith('a') : true", {}, True),
        ("self.hosts.all(h, h.matches('^[a-z]+$'))", {"hosts": ["ab", "C"]}, False),
        ("self.hosts.exists_one(h, h == 'a')", {"hosts": ["a", "b"]}, True),
        ("isURL(self.name) && url(self.name).getScheme() == 'https'", {"name": "https://a/b"}, True),
        ("isIP(self.name)", {"name": "10.0.0.256"}, False),
        ("self.hosts.isSorted() && self.hosts.join('+') == 'a+b'", {"hosts": ["a", "b"]}, True),
        ("self.name.lowerAscii().split('/').size() == 2", {"name": "A/B"}, True),
        ("self.ratio > 0.5", {"ratio": 1}, True),
        ("self.wait > duration('30s')", {"wait": "1m"}, True),
        ("self.since > timestamp('2024-01-01T00:00:00Z')", {"since": "2023-01-01T00:00:00Z"}, False),
    ],
)
def test_the_language(rule: str, fields: JSON, holds: bool) -> None:
    schema = spec(
        [{"rule": rule}],
        namespace=TEXT,
        name=TEXT,
        hosts={"type": "array", "items": TEXT},
        ratio={"type": "number"},
        wait={"type": "string", "format": "duration"},
        since={"type": "string", "format": "date-time"},
        **{"a-b": TEXT},
    )
    assert (messages(schema, obj(**fields)) == []) is holds


def test_the_root_sees_its_name() -> None:
    schema = {"type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name == 'w' && self.kind == 'W'"}]}
    assert messages(schema, obj()) == []


def test_rules_that_do_not_compile_are_refused() -> None:
    (cause,) = cel_rules.problems(spec([{"rule": "self.("}]), "schema")
    assert cause.field == "schema.properties[spec].x-kubernetes-validations[0].rule"
    assert "compilation failed" in cause.message


def test_what_cannot_be_evaluated_is_told() -> None:
    schema = spec([{"rule": "self.name.format.named('x').validate(self.name).hasValue()"}], name=TEXT)
    assert "nobody has" in cel_rules.not_evaluated(schema)[0]
    assert messages(schema, obj(name="a")) == []
