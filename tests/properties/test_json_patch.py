"""The JSON Patch from one document to another makes the one of the other."""

from __future__ import annotations

from copy import deepcopy

from hypothesis import given
from hypothesis import strategies as st

from mizzen.inject.patch import difference

KEYS = st.sampled_from(["a", "b", "a/b", "~", "~1", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("xy", max_size=2),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


def apply(document, operations):
    """RFC 6902 add, remove, replace, written without looking at the code under test."""
    root = {"": deepcopy(document)}
    for operation in operations:
        at, *way = ["", *operation["path"].split("/")[1:]]
        target, key = root, at
        for part in way:
            target = target[key]
            key = part.replace("~1", "/").replace("~0", "~")
            key = key if isinstance(target, dict) or key == "-" else int(key)
        if operation["op"] == "remove":
            del target[key]
        elif isinstance(target, list) and operation["op"] == "add":
            target.insert(len(target) if key == "-" else key, operation["value"])
        else:
            target[key] = operation["value"]
    return root[""]


@given(DOCUMENTS, DOCUMENTS)
def test_applying_the_difference_gives_the_other_document(old, new) -> None:
    result = apply(old, difference(old, new))
    assert repr(result) == repr(new) or result == new
    assert difference(result, new) == []
