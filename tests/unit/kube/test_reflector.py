"""The list-and-watch state machine, event by event."""

from __future__ import annotations

from typing import Any

from mizzen.kube.api import JSON, ObjectList, WatchEvent
from mizzen.kube.reflector import Change, Reflector, same_revision


def obj(name: str, version: int, spec: Any = None, uid: str = "", **metadata: Any) -> JSON:
    meta = {"name": name, "namespace": "shop", "uid": uid or name, "resourceVersion": str(version), **metadata}
    return {"kind": "Thing", "metadata": meta, "spec": spec or {}}


def listing(version: int, *items: JSON) -> ObjectList:
    return ObjectList(list(items), str(version))


def test_a_status_write_hands_back_the_old_object() -> None:
    reflector = Reflector()
    first = obj("a", 1, {"x": 1})
    reflector.listed(listing(1, first))
    beat = obj("a", 2, {"x": 1}) | {"status": {"seen": 1}}
    assert reflector.observed(WatchEvent("MODIFIED", beat)) is None
    assert reflector.objects["shop", "a"] is first
    assert reflector.resource_version == "2"


def test_spec_labels_annotations_and_identity_are_changes() -> None:
    reflector = Reflector()
    reflector.listed(listing(1, obj("a", 1)))
    for version, changed in enumerate(
        (
            obj("a", 2, {"x": 1}),
            obj("a", 3, {"x": 1}, labels={"v": "2"}),
            obj("a", 4, {"x": 1}, labels={"v": "2"}, annotations={"n": "1"}),
            obj("a", 5, {"x": 1}, labels={"v": "2"}, annotations={"n": "1"}, uid="other"),
        ),
        start=2,
    ):
        change = reflector.observed(WatchEvent("MODIFIED", changed))
        assert change is not None and change.new is changed, version


def test_data_of_a_config_map_is_a_change() -> None:
    reflector = Reflector()
    reflector.listed(listing(1, obj("a", 1) | {"data": {"k": "1"}}))
    assert reflector.observed(WatchEvent("MODIFIED", obj("a", 2) | {"data": {"k": "2"}})) is not None


def test_relist_tells_the_difference_only() -> None:
    reflector = Reflector()
    kept, gone = obj("kept", 1), obj("gone", 2)
    reflector.listed(listing(2, kept, gone))
    reflector.expired()
    assert reflector.resource_version == "" and reflector.objects
    new = obj("new", 9)
    changes = reflector.listed(listing(9, obj("kept", 1), new))
    assert changes == [Change(("shop", "gone"), gone, None), Change(("shop", "new"), None, new)]
    assert reflector.objects["shop", "kept"] is kept


def test_bookmarks_move_the_revision_alone() -> None:
    reflector = Reflector()
    reflector.listed(listing(1, obj("a", 1)))
    assert reflector.observed(WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "50"}})) is None
    assert reflector.resource_version == "50" and len(reflector.objects) == 1


def test_deleted_carries_the_last_state() -> None:
    reflector = Reflector()
    reflector.listed(listing(1, obj("a", 1)))
    last = obj("a", 2, {"x": 9})
    assert reflector.observed(WatchEvent("DELETED", last)) == Change(("shop", "a"), last, None)
    assert reflector.observed(WatchEvent("DELETED", last)) is None


def test_our_own_write_is_read_at_once_and_late_events_do_not_undo_it() -> None:
    reflector = Reflector(same_revision)
    reflector.listed(listing(5, obj("a", 5)))
    ours = obj("a", 9, {"x": 2})
    assert reflector.written(ours) is not None
    assert reflector.observed(WatchEvent("MODIFIED", obj("a", 7, {"x": 1}))) is None
    assert reflector.objects["shop", "a"] is ours
    assert reflector.observed(WatchEvent("MODIFIED", obj("a", 9, {"x": 2}))) is None
    assert reflector.observed(WatchEvent("MODIFIED", obj("a", 10, {"x": 3}))) is not None


def test_a_list_from_before_our_create_does_not_drop_the_object() -> None:
    reflector = Reflector(same_revision)
    reflector.listed(listing(5))
    reflector.written(obj("a", 9))
    assert reflector.listed(listing(6)) == []
    assert reflector.listed(listing(12))[0].new is None


def test_the_late_deletion_of_a_namesake_does_not_hit_the_new_object() -> None:
    reflector = Reflector(same_revision)
    reflector.listed(listing(5, obj("web-0", 5, uid="old")))
    reflector.written(obj("web-0", 9, uid="new"))
    assert reflector.observed(WatchEvent("DELETED", obj("web-0", 8, uid="old"))) is None
    assert reflector.objects["shop", "web-0"]["metadata"]["uid"] == "new"
