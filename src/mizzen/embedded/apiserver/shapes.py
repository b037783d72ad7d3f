"""The shape of an answer: the object itself, a Table for kubectl, or only its metadata.

https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from mizzen.embedded.apiserver import tables
from mizzen.embedded.apiserver.reading import Page, document_in, encode_list, line, plain_bookmark, raw_in
from mizzen.embedded.apiserver.resources import ResourceType
from mizzen.embedded.apiserver.store_entries import Entry
from mizzen.embedded.apiserver.wire import Request, encode, representation
from mizzen.kube.api import JSON

_META = "meta.k8s.io/v1"


class Shaper:
    """Writes the objects of one kind as one request wants them."""

    def __init__(self, kind: ResourceType, request: Request) -> None:
        self.kind = kind
        self.shape = representation(request.headers.get("accept", ""))
        self._include = request.parameter("includeObject") or "Metadata"
        self._columns_sent = False

    def raw(self, entry: Entry) -> bytes:
        return raw_in(self.kind, entry)

    def one(self, obj: JSON) -> bytes:
        if self.shape == "table":
            return encode(self._table([obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")}))
        return encode(_partial(obj) if self.shape == "partial" else obj)

    def many(self, page: Page) -> bytes:
        if self.shape == "object":
            return encode_list(self.kind, page)
        documents = [document_in(self.kind, entry) for entry in page.entries]
        if self.shape == "table":
            return encode(self._table(documents, page.metadata()))
        items = [_partial(each) for each in documents]
        head = {"kind": "PartialObjectMetadataList", "apiVersion": _META, "metadata": page.metadata()}
        return encode({**head, "items": items})

    def event(self, kind: str, entry: Entry) -> bytes:
        """One line of a watch."""
        return line(kind, raw_in(self.kind, entry) if self.shape == "object" else self._watched(entry))

    def _watched(self, entry: Entry) -> bytes:
        obj = document_in(self.kind, entry)
        if self.shape == "partial":
            return encode(_partial(obj))
        table = self._table([obj], {"resourceVersion": str(entry.revision)})
        if self._columns_sent:
            table["columnDefinitions"] = None
        self._columns_sent = True
        return encode(table)

    def bookmark(self, revision: int, initial_end: bool) -> bytes:
        if self.shape == "object":
            return plain_bookmark(self.kind, revision, initial_end)
        metadata: JSON = {"resourceVersion": str(revision)}
        if initial_end:
            metadata["annotations"] = {"k8s.io/initial-events-end": "true"}
        partial: JSON = {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": metadata}
        if self.shape == "table":
            row = {"cells": [], "object": partial}
            partial = {
                "kind": "Table",
                "apiVersion": _META,
                "metadata": metadata,
                "columnDefinitions": [],
                "rows": [row],
            }
        return line("BOOKMARK", encode(partial))

    def _table(self, objects: Sequence[JSON], metadata: JSON) -> JSON:
        columns, rows = tables.render(self.kind, objects, datetime.now(UTC))
        return {
            "kind": "Table",
            "apiVersion": _META,
            "metadata": metadata,
            "columnDefinitions": columns,
            "rows": [self._row(cells, obj) for cells, obj in zip(rows, objects, strict=True)],
        }

    def _row(self, cells: list[object], obj: JSON) -> JSON:
        if self._include == "None":
            return {"cells": cells}
        return {"cells": cells, "object": obj if self._include == "Object" else _partial(obj)}


def _partial(obj: JSON) -> JSON:
    return {"kind": "PartialObjectMetadata", "apiVersion": _META, "metadata": obj["metadata"]}
