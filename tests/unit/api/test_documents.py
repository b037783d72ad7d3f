from __future__ import annotations

from typing import Any

import pytest

from mizzen.api.documents import NotYaml, Position, load

BROKEN = """\
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata:
  name: my-vs
spec:
  hosts:
    - my-service
  http:
    # Rule 1
    - match:
        - headers:
            x-version:
              exact: "v2"
      route:
        - destination:
            host: my-service
            subset: v2

    - route:
        - destination:
            host: my-service
          weight: 90

    # RETRIES
    retries:
      attempts: 3
      perTryTimeout: 2s
    timeout: 10s
"""


def test_settings_beside_the_rules_are_told_where_they_belong() -> None:
    with pytest.raises(NotYaml) as caught:
        load(BROKEN)
    assert caught.value.position == Position(line=25, column=5)
    assert "`retries` and `timeout` stand beside" in caught.value.message
    assert "inside an item of `http`" in caught.value.message


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "`a` stands twice"),
        ("a: {b: 1, b: 2}\n", 1, "`b` stands twice"),
        ("a: [1,\n", 2, ""),
        ("a:\n\t- b\n", 2, "a tab stands in the indentation"),
        ("a: *nowhere\n", 1, "undefined alias"),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(text: str, line: int, says: str) -> None:
    with pytest.raises(NotYaml) as caught:
        load(text)
    assert caught.value.position.line == line and says in caught.value.message


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("014", 12),
        ("0x1F", 31),
        ("0b101", 5),
        ("-1", -1),
        ("1_000", 1000),
        ("089", 89.0),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("yes", True),
        ("Off", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("'1'", "1"),
        ("!!str 12", "12"),
        ("10s", "10s"),
        ("1.2.3", "1.2.3"),
        ("v1", "v1"),
    ],
)
def test_scalars_are_read_as_kubectl_reads_them(text: str, value: Any) -> None:
    assert load(f"a: {text}")[0].value == {"a": value}


def test_every_value_knows_where_it_stands() -> None:
    (document,) = load("spec:\n  http:\n  - match:\n    - headers:\n        x.y: {exact: a}\n")
    assert document.position('spec.http[0].match[0].headers["x.y"].exact') == Position(line=5, column=15)
    assert document.position("spec.http[0].route[7].weight") == Position(line=3, column=5)
    assert document.position("nowhere") == Position(line=1, column=1)


def test_streams_lists_and_empty_documents() -> None:
    text = "---\n# nothing\n---\nkind: A\n---\nkind: List\nitems:\n- kind: B\n- {kind: C, d: 1}\n"
    documents = load(text)
    assert [document.value["kind"] for document in documents] == ["A", "B", "C"]
    assert documents[2].position("d") == Position(line=9, column=13)


def test_keys_are_text_and_merges_are_merged() -> None:
    (document,) = load("base: &b {p: 1, q: 2}\nmore: {<<: *b, q: 3}\n8080: a\ny: b\n")
    assert document.value == {"base": {"p": 1, "q": 2}, "more": {"p": 1, "q": 3}, "8080": "a", "true": "b"}


def test_json_is_yaml() -> None:
    assert load('{"kind": "A", "n": [1, 2.5, null, true]}')[0].value == {"kind": "A", "n": [1, 2.5, None, True]}


def test_a_bomb_of_aliases_is_defused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(NotYaml, match="aliases"):
        load("\n".join(lines))
