"""Kubernetes' strategic merge patch: a merge patch whose lists merge by the keys that the schema names.

What its directives mean is told in kubernetes/community, contributors/devel/sig-api-machinery/strategic-merge-patch.md,
and for `$setElementOrder` in the design proposal "preserve order in strategic merge patch". Only the server's half is
here: a patch meets a live object, so nulls delete and directives are consumed.
"""

from __future__ import annotations

from typing import Any

from mizzen.embedded.apiserver.schema_definitions import Node, child, element, resolve

DIRECTIVE = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_FROM_LIST = "$deleteFromPrimitiveList/"
ELEMENT_ORDER = "$setElementOrder/"


class StrategicPatchError(Exception):
    """The patch contradicts the schema or itself."""


def strategic_merge(original: dict[str, Any], patch: dict[str, Any], schema: Node) -> dict[str, Any]:
    """`original` with `patch` merged in; both stay as they are. Raises StrategicPatchError."""
    directive = patch.get(DIRECTIVE)
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != DIRECTIVE}
    if directive == "delete":
        return {}
    if directive is not None:
        raise StrategicPatchError(f"unknown patch type {directive!r}: use replace or delete on objects")
    merged = _retained(original, patch)
    for key, value in patch.items():
        _merge_field(merged, key, value, patch, schema)
    return merged


def _retained(original: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """`original` reduced to the keys of `$retainKeys`, where the patch has it."""
    retained = patch.get(RETAIN_KEYS)
    if retained is None:
        return dict(original)
    if not isinstance(retained, list):
        raise StrategicPatchError("$retainKeys must be a list of field names")
    for key, value in patch.items():
        if value is not None and not _is_directive(key) and key not in retained:
            raise StrategicPatchError(f"the patch sets {key!r}, which its own $retainKeys leaves out")
    return {key: value for key, value in original.items() if key in retained}


def _merge_field(merged: dict[str, Any], key: str, value: Any, patch: dict[str, Any], schema: Node) -> None:
    if key == RETAIN_KEYS:
        return
    if key.startswith(ELEMENT_ORDER):
        _order_field(merged, key.removeprefix(ELEMENT_ORDER), value, patch, schema)
    elif key.startswith(DELETE_FROM_LIST):
        _delete_from_list(merged, key.removeprefix(DELETE_FROM_LIST), value)
    elif ELEMENT_ORDER + key in patch:
        return  # merged and ordered together, above
    elif value is None:
        merged.pop(key, None)
    else:
        _set(merged, key, _merged_value(merged.get(key), value, child(schema, key)))


def _set(merged: dict[str, Any], key: str, value: Any) -> None:
    if value is _NOTHING:
        merged.pop(key, None)
    else:
        merged[key] = value


def _merged_value(original: Any, value: Any, node: Node) -> Any:
    strategies = _strategies(node)
    if isinstance(original, dict) and isinstance(value, dict):
        return value if "replace" in strategies else strategic_merge(original, value, resolve(node))
    if isinstance(original, list) and isinstance(value, list):
        return _merged_list(original, value, node) if "merge" in strategies else value
    return _without_directives(value)


def _strategies(node: Node) -> list[str]:
    strategy: str = node.get("x-kubernetes-patch-strategy", "")
    return strategy.split(",")


class _Nothing:
    """Marks a value that its own directive removes."""


_NOTHING = _Nothing()


def _without_directives(value: Any) -> Any:
    """A new value as it is stored: nulls dropped, elements that only said `$patch: …` left out."""
    if isinstance(value, dict):
        if DIRECTIVE in value:
            return _NOTHING
        kept = {key: _without_directives(item) for key, item in value.items() if item is not None}
        return {key: item for key, item in kept.items() if item is not _NOTHING and not _is_directive(key)}
    if isinstance(value, list):
        return [item for item in map(_without_directives, value) if item is not _NOTHING]
    return value


def _is_directive(key: str) -> bool:
    return key == RETAIN_KEYS or key.startswith((DELETE_FROM_LIST, ELEMENT_ORDER))


def _delete_from_list(merged: dict[str, Any], key: str, doomed: Any) -> None:
    if not isinstance(doomed, list):
        raise StrategicPatchError(f"$deleteFromPrimitiveList/{key} must be a list")
    if isinstance(items := merged.get(key), list):
        merged[key] = [item for item in items if item not in doomed]


def _merged_list(original: list[Any], patch: list[Any], node: Node) -> list[Any]:
    """Patch elements first in the patch's own order, the others where the live list had them."""
    key = node.get("x-kubernetes-patch-merge-key")
    if not any(isinstance(item, dict) for item in (*original, *patch)):
        merged = _unique([*original, *patch])
        return _ordered(merged, patch, original, None)
    if not key:
        raise StrategicPatchError("this list has no merge key, so it cannot be merged")
    kept, updates, replaced = _apply_directives(original, patch, key)
    merged = kept if replaced else _merge_elements(kept, updates, key, element(node))
    return _ordered(merged, updates, original, key)


def _unique(items: list[Any]) -> list[Any]:
    seen: list[Any] = []
    for item in items:
        if item not in seen:
            seen.append(item)
    return seen


def _key_of(item: Any, key: str) -> Any:
    if not isinstance(item, dict):
        raise StrategicPatchError(f"expected an object with {key!r}, found {item!r}")
    if key not in item:
        raise StrategicPatchError(f"map: {item} does not contain declared merge key: {key}")
    return item[key]


def _apply_directives(original: list[Any], patch: list[Any], key: str) -> tuple[list[Any], list[Any], bool]:
    """The live elements that survive `$patch: delete`, the ordinary patch elements, and whether they replace all."""
    special = [item for item in patch if isinstance(item, dict) and DIRECTIVE in item]
    ordinary = [item for item in patch if not (isinstance(item, dict) and DIRECTIVE in item)]
    for item in special:
        if item[DIRECTIVE] not in ("delete", "replace"):
            raise StrategicPatchError(f"unknown patch type {item[DIRECTIVE]!r}: use replace or delete on list elements")
    if any(item[DIRECTIVE] == "replace" for item in special):
        return ordinary, [], True
    doomed = [_key_of(item, key) for item in special]
    return [item for item in original if not (isinstance(item, dict) and item.get(key) in doomed)], ordinary, False


def _merge_elements(original: list[Any], updates: list[Any], key: str, schema: Node) -> list[Any]:
    merged = list(original)
    for update in updates:
        wanted = _key_of(update, key)
        position = _index(merged, wanted, key)
        if position < 0:
            merged.append(_without_directives(update))
        else:
            merged[position] = strategic_merge(merged[position], update, schema)
    return merged


def _index(items: list[Any], wanted: Any, key: str | None) -> int:
    """Where the element with this key (or this very scalar) stands, else -1."""
    for position, item in enumerate(items):
        if (item if key is None else isinstance(item, dict) and item.get(key)) == wanted:
            return position
    return -1


def _ordered(merged: list[Any], order: list[Any], live: list[Any], key: str | None) -> list[Any]:
    """Elements named by `order` in that order; the server's own ones woven in where the live list had them."""

    def place(item: Any, items: list[Any]) -> int:
        return _index(items, item if key is None else _key_of(item, key), key)

    named = sorted((item for item in merged if place(item, order) >= 0), key=lambda item: place(item, order))
    others = [item for item in merged if place(item, order) < 0]
    woven: list[Any] = []
    for item in named:
        position = place(item, live)
        while others and 0 <= place(others[0], live) < position:
            woven.append(others.pop(0))
        woven.append(item)
    return woven + others


def _order_field(merged: dict[str, Any], key: str, order: Any, patch: dict[str, Any], schema: Node) -> None:
    """`$setElementOrder/key`: merge the list and put it into that order."""
    node = child(schema, key)
    original, updates = merged.get(key), patch.get(key)
    if key in patch and updates is None:
        merged.pop(key, None)
        return
    if not all(isinstance(items, list) for items in (order, original or [], updates or [])):
        raise StrategicPatchError(f"$setElementOrder/{key} applies to lists only")
    if original is None and updates is None:
        return
    merge_key = _order_key(node, order)
    _check_order(updates or [], order, merge_key, key)
    if original is None:
        both = _without_directives(updates)
    else:
        both = _merged_list(original, updates, node) if updates is not None else list(original)
    merged[key] = _ordered(both, order, original or [], merge_key)


def _order_key(node: Node, order: list[Any]) -> str | None:
    key: str | None = node.get("x-kubernetes-patch-merge-key")
    if key is None and any(isinstance(item, dict) for item in order):
        raise StrategicPatchError("this list has no merge key, so its elements cannot be ordered")
    return key


def _check_order(updates: list[Any], order: list[Any], key: str | None, field: str) -> None:
    """The patch's elements must occur in the order list, in the same sequence."""
    ordinary = [item for item in updates if not (isinstance(item, dict) and DIRECTIVE in item)]
    places = [_index(order, item if key is None else _key_of(item, key), key) for item in ordinary]
    if -1 in places or places != sorted(places):
        raise StrategicPatchError(f"the order in patch list {updates} does not match $setElementOrder/{field} {order}")
