"""The store: revisions, races, history, and what is on the disk."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from itertools import islice
from pathlib import Path

import pytest

from mizzen.embedded.apiserver import store_disk
from mizzen.embedded.apiserver.store import Stale, Store
from mizzen.embedded.apiserver.store_collection import Collection, Moment, place_of
from mizzen.embedded.apiserver.store_disk import StoreTooNew
from mizzen.embedded.apiserver.store_entries import Entry, Event, Key
from mizzen.embedded.apiserver.store_history import History


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
    assert [each.key[1:] for each in store.at(store.revision, "things").entries(("a", "1"))] == [("a", "2"), ("b", "1")]
    assert [each.key[1:] for each in store.entries("things", "a")] == [("a", "1"), ("a", "2")]
    await store.close()


async def test_the_past_can_be_read_while_the_history_lasts(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", max_events=3)
    a = await put(store, "a")
    moment = store.revision
    await store.delete(a)
    await put(store, "b")
    assert [each.key.name for each in store.at(moment, "things", "n").entries()] == ["a"]
    assert [each.key.name for each in store.entries("things")] == ["b"]
    for name in "cde":
        await put(store, name)
    with pytest.raises(LookupError):
        store.at(moment, "things", "n")
    with pytest.raises(LookupError):
        store.subscribe("things", "", moment)
    await store.close()


async def changed_at_random(store: Store, chance: random.Random) -> None:
    namespace, name = chance.choice("lmn"), chance.choice("abcdefgh")
    present = store.get(key(name, namespace))
    if present and chance.random() < 0.5:
        await store.delete(present)
    else:
        await store.put(key(name, namespace), thing(name, x=chance.random()), present)


@pytest.mark.parametrize("seed", range(3))
async def test_pages_of_the_past_are_what_a_list_then_was(seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    store = Store(tmp_path / "store.db")
    lists: dict[tuple[int, str], list[Entry]] = {}
    for _ in range(60):
        await changed_at_random(store, chance)
        for namespace in ("", "m"):
            lists[store.revision, namespace] = list(store.entries("things", namespace))
    for (revision, namespace), then in lists.items():
        moment = store.at(revision, "things", namespace)
        assert list(moment.entries()) == then
        for index, entry in enumerate(then, 1):
            assert list(islice(moment.entries(place_of(entry)), 3)) == then[index : index + 3]
            assert moment.count(place_of(entry)) == len(then) - index
    await store.close()


class Counted(dict[str, Entry]):
    looked_up = 0

    def __getitem__(self, name: str) -> Entry:
        Counted.looked_up += 1
        return super().__getitem__(name)


def test_a_page_costs_what_is_on_it() -> None:
    things = Collection()
    for number in range(1000):
        things.put(Entry(key(f"{number:03}"), number, b'{"metadata":{}}'))
    bucket = things._buckets["n"]  # what else could count the look-ups?
    bucket.entries = Counted(bucket.entries)
    moment = Moment(things, "", {key("700"): None, key("900"): things.get("n", "800")})
    page = list(islice(moment.entries(("n", "499")), 10))
    assert [each.key.name for each in page] == [str(number) for number in range(500, 510)]
    assert moment.count(("n", "509")) == 490 - 2 + 1
    assert Counted.looked_up <= 12


def told(store: Store, since: int) -> list[tuple[str, str, str]]:
    """Type, name, and the name's `x` before it, of everything after a revision."""
    events = store.subscribe("things", "", since).pending
    return [
        (each.type, each.entry.key.name, (each.previous and each.previous.document().get("x")) or "") for each in events
    ]


async def test_the_past_survives_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db")
    start = store.revision
    a = await put(store, "a", x="one")
    moment = store.revision
    await store.delete(await put(store, "a", a, x="two"))
    await put(store, "b")
    events = [("ADDED", "a", ""), ("MODIFIED", "a", "one"), ("DELETED", "a", "two"), ("ADDED", "b", "")]
    assert told(store, start) == events
    await store.close()
    store = Store(tmp_path / "store.db")
    assert told(store, start) == events
    assert told(store, moment) == events[1:]
    assert [each.raw for each in store.at(moment, "things", "n").entries()] == [a.raw]
    await store.close()


async def test_what_is_forgotten_stays_forgotten_and_takes_no_room(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.db", max_events=3)
    kept = await put(store, "kept")
    last = await put(store, "often", x="0")
    for number in range(1, 20):
        last = await put(store, "often", last, x=str(number))
        await store.delete(await put(store, "short-lived"))
    await store.close()
    with sqlite3.connect(tmp_path / "store.db") as database:
        rows = database.execute("SELECT name, count(*) FROM versions GROUP BY name").fetchall()
    database.close()
    assert dict(rows) == {"kept": 1, "often": 2, "short-lived": 4}, "what three events need, and one not yet swept"
    store = Store(tmp_path / "store.db", max_events=3)
    assert [each.raw for each in store.entries("things", "n")] == [kept.raw, last.raw]
    assert told(store, store.oldest) == [
        ("MODIFIED", "often", "18"),
        ("ADDED", "short-lived", ""),
        ("DELETED", "short-lived", ""),
    ]
    with pytest.raises(LookupError):
        store.subscribe("things", "", store.oldest - 1)
    await store.close()


async def test_history_is_bounded_in_bytes(tmp_path: Path) -> None:
    history = History(0, max_bytes=1000)
    for revision in range(1, 100):
        entry = Entry(key("a"), revision, b'{"metadata":{"uid":"a"},"x":"' + b"x" * 300 + b'"}')
        history.append(Event(revision, "ADDED", entry, None))
    assert [each.revision for each in history.since(history.oldest)] == [97, 98, 99]


async def test_a_store_of_the_first_schema_is_carried_over(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as database:
        database.executescript(store_disk._MIGRATIONS[0])
        database.execute("INSERT INTO objects VALUES ('things', 'n', 'a', 7, ?)", (b'{"metadata":{"uid":"a"}}',))
        database.execute("UPDATE counter SET revision = 9")
    database.close()
    store = Store(tmp_path / "store.db")
    assert [(each.key.name, each.revision) for each in store.entries("things")] == [("a", 7)]
    assert (store.oldest, store.revision, told(store, 9)) == (9, 9, [])
    assert (await put(store, "b")).revision == 10
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
