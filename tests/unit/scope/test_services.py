from __future__ import annotations

from typing import Any

import pytest

from mizzen.scope.services import selected_protocol, visible_services, word
from worlds import table, world

NAMES = {"unsupportedprotocol": "auto"}


@pytest.mark.parametrize("row", table("TestParse"))
def test_protocol_words(row: dict[str, Any]) -> None:
    wanted = row["out"].lower()
    assert word(row["name"]).value == NAMES.get(wanted, wanted)


@pytest.mark.parametrize("row", table("TestConvertProtocol"))
def test_protocol_selection(row: dict[str, Any]) -> None:
    wanted = row["out"].lower()
    chosen = selected_protocol(row["port"], row["name"], row["appProtocol"], row["proto"])
    assert chosen.value == NAMES.get(wanted, wanted)


SERVICES = """
kind: Service
metadata: {name: everyones}
---
kind: Service
metadata: {name: own, annotations: {networking.istio.io/exportTo: .}}
---
kind: Service
metadata: {name: friends, annotations: {networking.istio.io/exportTo: "a, b"}}
---
kind: Service
metadata: {name: hidden, annotations: {networking.istio.io/exportTo: "~"}}
"""


@pytest.mark.parametrize(
    ("namespace", "names"),
    [("default", {"everyones", "own"}), ("a", {"everyones", "friends"}), ("elsewhere", {"everyones"})],
)
def test_export_to_says_who_sees_a_service(namespace: str, names: set[str]) -> None:
    visible = visible_services(world(SERVICES), namespace)
    assert {service.name for service in visible.by_host.values()} == names


def test_namespaces_that_nothing_singles_out_share_one_catalog() -> None:
    snapshot = world(SERVICES)
    assert visible_services(snapshot, "x") is visible_services(snapshot, "y")
    assert visible_services(snapshot, "x") is not visible_services(snapshot, "a")
