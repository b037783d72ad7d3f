"""The store's file: one row for each version of an object that somebody may still ask for.

Rows are only ever added, and removed when the history forgets them: a write is one insert at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from mizzen.embedded.apiserver.store_entries import Entry, Event, Key
from mizzen.embedded.apiserver.store_history import Forgotten

SCHEMA_VERSION = 2
_ROWS_AT_ONCE = 100


class StoreTooNew(Exception):
    """The store file was written by a newer version of this program."""


class Counter(NamedTuple):
    """The last revision that was given out, and the oldest one from which the past is complete."""

    revision: int
    oldest: int


def open_file(path: Path) -> sqlite3.Connection:
    """Readable by its owner alone, and of the newest schema. Raises StoreTooNew."""
    path.touch(mode=0o600, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        database.close()
        raise StoreTooNew(f"{path.name} has schema {version}; this version of mizzen knows up to {SCHEMA_VERSION}")
    for step in _MIGRATIONS[version:]:
        database.executescript(step)
    return database


def read_counter(database: sqlite3.Connection) -> Counter:
    return Counter(*database.execute("SELECT revision, oldest FROM counter").fetchone())


def read_events(database: sqlite3.Connection) -> Iterator[Event]:
    """Every version in order, as the event that it was; those up to `oldest` are there for what came after them."""
    current: dict[Key, Entry] = {}
    rows = database.execute("SELECT revision, resource, namespace, name, gone, body FROM versions ORDER BY revision")
    for revision, resource, namespace, name, gone, body in rows:
        entry = Entry(Key(resource, namespace, name), revision, body)
        previous = current.pop(entry.key, None)
        if gone:
            yield Event(revision, "DELETED", entry, previous)
        else:
            current[entry.key] = entry
            yield Event(revision, "MODIFIED" if previous else "ADDED", entry, previous)


def commit(database: sqlite3.Connection, events: list[Event], forgotten: Iterable[Forgotten]) -> None:
    """All of it or nothing, and on the disk. Raises sqlite3.Error."""
    with database:
        database.execute("BEGIN IMMEDIATE")
        for start in range(0, len(events), _ROWS_AT_ONCE):
            rows = events[start : start + _ROWS_AT_ONCE]
            places = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(rows))
            # One statement: between statements, the event loop's thread may keep us waiting for the interpreter.
            insert = f"INSERT INTO versions VALUES {places}"  # noqa: S608 - question marks alone
            database.execute(insert, list(chain.from_iterable(map(_row, rows))))
        for each in forgotten:
            database.executemany("DELETE FROM versions WHERE revision = ?", ((one,) for one in each.revisions))
            database.execute("UPDATE counter SET oldest = ?", (each.oldest,))
        database.execute("UPDATE counter SET revision = ?", (events[-1].revision,))


def _row(event: Event) -> tuple[int, str, str, str, bool, bytes]:
    return (event.revision, *event.entry.key, event.type == "DELETED", event.entry.raw)


_MIGRATIONS = (
    """
    BEGIN;
    CREATE TABLE objects (
        resource TEXT, namespace TEXT, name TEXT, revision INTEGER, body BLOB,
        PRIMARY KEY (resource, namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE counter (revision INTEGER);
    INSERT INTO counter VALUES (1);
    PRAGMA user_version = 1;
    COMMIT;
    """,
    """
    BEGIN;
    CREATE TABLE versions (
        revision INTEGER PRIMARY KEY, resource TEXT, namespace TEXT, name TEXT, gone INTEGER, body BLOB
    );
    INSERT INTO versions SELECT revision, resource, namespace, name, 0, body FROM objects;
    DROP TABLE objects;
    ALTER TABLE counter ADD COLUMN oldest INTEGER;
    UPDATE counter SET oldest = revision;
    PRAGMA user_version = 2;
    COMMIT;
    """,
)
"""Statement scripts, each leading from its index to the next `user_version`."""
