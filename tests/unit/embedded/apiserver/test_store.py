"""The store: revisions, races, history, and what is on the disk."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from mizzen.embedded.apiserver.store import Entry, Key, Stale, Store, StoreTooNew


def key(name: str, namespace: str = "n") -> Key:
    return Key("things", namespace, name)


def thing(name: str, **rest: object) -> dict[str, object]:
    return {"apiVersion": "v1", "metadata": {"name": name, "uid": name}, **rest}


async def put(store: Store, name: str, expected: Entry | None = None, **rest: object) -> Entry:
    return await store.put(key(name), thing(name, **rest), expected)


async def test_what_was_answered_is_there_after_opening_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    first = await put(store, "a", x=1)
    await store.delete(await put(store, "b"))
    revision = store.revision
    await store.close()
    store = Store(tmp_path / "store.db")
    found = store.get(key("a"))
    assert found is not None
    assert (found.raw, found.revision) == (first.raw, first.revision)
    assert store.get(key("b")) is None
    assert store.revision == revision
    assert (await put(store, "c")).revision > revision
    await store.close()


async def test_a_lost_race_is_stale_even_before_the_winner_is_on_disk(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    first = await put(store, "a")
    winner = store.put(key("a"), thing("a", x=1), first)
    with pytest.raises(Stale):
        store.put(key("a"), thing("a", x=2), first)
    assert store.get(key("a")) is first, "nothing is seen before it is committed"
    await store.settled(key("a"))
    assert store.get(key("a")) is await winner
    with pytest.raises(Stale):
        store.put(key("a"), thing("a"), None)
    await store.close()


async def test_lists_are_in_order(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    for namespace, name in (("b", "1"), ("a", "2"), ("a", "1")):
        await store.put(key(name, namespace), thing(name), None)
    assert [each.key[1:] for each in store.entries("things")] == [("a", "1"), ("a", "2"), ("b", "1")]
    assert [each.key[1:] for each in store.entries("things", after=("a", "1"))] == [("a", "2"), ("b", "1")]
    assert [each.key[1:] for each in store.entries("things", "a")] == [("a", "1"), ("a", "2")]
    await store.close()


async def test_the_past_can_be_read_while_the_ring_lasts(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", ring_size=3)
    a = await put(store, "a")
    moment = store.revision
    await store.delete(a)
    await put(store, "b")
    assert [each.key.name for each in store.entries_at("things", "n", moment)] == ["a"]
    assert [each.key.name for each in store.entries("things")] == ["b"]
    for name in "cde":
        await put(store, name)
    with pytest.raises(LookupError):
        store.entries_at("things", "n", moment)
    with pytest.raises(LookupError):
        store.subscribe("things", "", moment)
    await store.close()


async def test_subscriptions_miss_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    first = await put(store, "a")
    start = store.revision
    second = await put(store, "a", first, x=1)
    subscription = store.subscribe("things", "n", start)
    await asyncio.gather(store.delete(second), put(store, "b"))
    seen = [(event.type, event.entry.key.name) for event in subscription.pending]
    assert seen == [("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]
    revisions = [event.revision for event in subscription.pending]
    assert revisions == sorted(set(revisions))
    await store.close()
    assert subscription.closed


async def test_many_writers_share_a_commit(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    entries = await asyncio.gather(*(put(store, f"t{number}") for number in range(200)))
    assert len({entry.revision for entry in entries}) == 200
    assert len(list(store.entries("things", "n"))) == 200
    await store.close()


async def test_a_store_of_the_future_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(StoreTooNew, match="schema 99"):
        Store(tmp_path / "store.db")
