"""JSON Patch and JSON Merge Patch: the RFCs' own examples, and what must hold for every document."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.embedded.apiserver.patch import JSON_PATCH, MERGE_PATCH, PatchError, apply_patch, json_patch, merge_patch
from mizzen.kube.api import WELL_KNOWN

# RFC 7386, appendix A
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]

# RFC 6902, appendix A
PATCHES: list[tuple[Any, Any, Any]] = [
    ({"foo": "bar"}, [{"op": "add", "path": "/baz", "value": "qux"}], {"foo": "bar", "baz": "qux"}),
    ({"foo": ["a", "c"]}, [{"op": "add", "path": "/foo/1", "value": "b"}], {"foo": ["a", "b", "c"]}),
    ({"foo": ["a"]}, [{"op": "add", "path": "/foo/-", "value": ["b"]}], {"foo": ["a", ["b"]]}),
    ({"foo": ["a", "b"]}, [{"op": "remove", "path": "/foo/0"}], {"foo": ["b"]}),
    ({"foo": 1}, [{"op": "replace", "path": "/foo", "value": 2}], {"foo": 2}),
    ({"foo": {"a": 1}, "b": {}}, [{"op": "move", "from": "/foo/a", "path": "/b/c"}], {"foo": {}, "b": {"c": 1}}),
    ({"foo": ["a", "b", "c"]}, [{"op": "move", "from": "/foo/0", "path": "/foo/2"}], {"foo": ["b", "c", "a"]}),
    ({"/": 9, "~1": 10}, [{"op": "test", "path": "/~01", "value": 10}], {"/": 9, "~1": 10}),
    ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
    ({"a": 1}, [{"op": "replace", "path": "", "value": {"b": 2}}], {"b": 2}),
]

REFUSED: list[tuple[Any, Any, int]] = [
    ({"foo": "bar"}, [{"op": "test", "path": "/foo", "value": "qux"}], 422),
    ({"foo": 1}, [{"op": "test", "path": "/foo", "value": True}], 422),
    ({"foo": 1}, [{"op": "remove", "path": "/bar"}], 422),
    ({"foo": [1]}, [{"op": "add", "path": "/foo/2", "value": 1}], 422),
    ({"foo": [1]}, [{"op": "add", "path": "/foo/01", "value": 1}], 422),
    ({"foo": 1}, [{"op": "add", "path": "/foo/bar", "value": 1}], 422),
    ({"foo": {}}, [{"op": "move", "from": "/foo", "path": "/foo/bar"}], 422),
    ({}, [{"op": "add", "path": "/a"}], 400),
    ({}, [{"op": "frobnicate", "path": "/a"}], 400),
    ({}, {"op": "add"}, 400),
]


@pytest.mark.parametrize(("target", "patch", "expected"), MERGES)
def test_merge_patch_examples(target: Any, patch: Any, expected: Any) -> None:
    assert merge_patch(target, patch) == expected


@pytest.mark.parametrize(("document", "patch", "expected"), PATCHES)
def test_json_patch_examples(document: Any, patch: Any, expected: Any) -> None:
    assert json_patch(document, patch) == expected


@pytest.mark.parametrize(("document", "patch", "code"), REFUSED)
def test_json_patches_that_do_not_fit(document: Any, patch: Any, code: int) -> None:
    with pytest.raises(PatchError) as error:
        json_patch(document, patch)
    assert error.value.code == code


def test_a_patch_must_leave_an_object() -> None:
    with pytest.raises(PatchError, match="not a JSON object"):
        apply_patch(MERGE_PATCH, WELL_KNOWN.pods, {}, [])


def test_the_result_shares_nothing_with_the_live_object() -> None:
    live = {"metadata": {"labels": {"a": "1"}}}
    patched = apply_patch(JSON_PATCH, WELL_KNOWN.pods, live, [{"op": "add", "path": "/spec", "value": {}}])
    patched["metadata"]["labels"]["a"] = "2"
    assert live == {"metadata": {"labels": {"a": "1"}}}


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "b"])
keys = st.sampled_from(["a", "b", "/", "~", "0"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
documents = st.dictionaries(keys, values, max_size=4)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


@given(documents, documents)
def test_merging_twice_changes_nothing_more(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


@given(documents)
def test_merging_into_nothing_gives_the_patch_without_nulls(patch: Any) -> None:
    assert merge_patch({}, patch) == without_nulls(patch)


@given(documents, keys, values)
def test_add_then_remove_restores(document: Any, key: str, value: Any) -> None:
    path = "/" + key.replace("~", "~0").replace("/", "~1")
    original = {name: item for name, item in document.items() if name != key}
    added = json_patch(
        original, [{"op": "add", "path": path, "value": value}, {"op": "test", "path": path, "value": value}]
    )
    assert json_patch(added, [{"op": "remove", "path": path}]) == original
