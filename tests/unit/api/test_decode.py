from __future__ import annotations

import pytest

from mizzen.api.base import Duration
from mizzen.api.decode import Undecodable, convert, to_json
from mizzen.api.mesh import MeshConfig
from mizzen.api.networking import VirtualService


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("0", 0),
        ("-1s", -1),
        ("1500us", 0.0015),
    ],
)
def test_durations_as_go_reads_them(text: str, seconds: float) -> None:
    assert Duration.parse(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "10", "s", "1 s", "1d", "1s2", "٣s"])
def test_what_go_would_refuse(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration.parse(text)


@pytest.mark.parametrize("text", ["10s", "0.25s", "5400s", "0s", "0.0015s"])
def test_durations_print_as_they_are_read(text: str) -> None:
    assert str(Duration.parse(text)) == text


@pytest.mark.parametrize(
    ("spec", "path", "reason"),
    [
        ({"http": [{"timeout": 10}]}, "spec.http[0].timeout", "with a unit"),
        ({"http": [{"timeout": "soon"}]}, "spec.http[0].timeout", "not a duration"),
        ({"http": [{"route": [{"destination": {}}]}]}, "spec.http[0].route[0].destination", "`host` is required"),
        (
            {"http": [{"route": [{"destination": {"host": "a"}, "weight": "90"}]}]},
            "spec.http[0].route[0].weight",
            "a whole number, not text",
        ),
        (
            {"http": [{"corsPolicy": {"unmatchedPreflights": "DROP"}}]},
            "spec.http[0].corsPolicy.unmatchedPreflights",
            "'DROP' is not one of UNSPECIFIED, FORWARD, IGNORE",
        ),
        ({"http": [{"directResponse": {"status": -1}}]}, "spec.http[0].directResponse.status", "at least 0"),
        ({"http": {"route": []}}, "spec.http", "a list, not a mapping"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_path(spec: dict[str, object], path: str, reason: str) -> None:
    with pytest.raises(Undecodable) as caught:
        convert({"spec": spec}, VirtualService)
    assert caught.value.path == path and reason in caught.value.reason


def test_null_counts_as_absent_and_unknown_fields_are_skipped() -> None:
    document = {"metadata": {"creationTimestamp": None}, "spec": {"hosts": ["a"], "http": None, "newer": 1}}
    assert convert(document, VirtualService).spec.hosts == ("a",)


def test_documents_come_back_as_they_went_in() -> None:
    document = {
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"hosts": ["a"], "http": [{"timeout": "10s", "retries": {"attempts": 3, "perTryTimeout": "2s"}}]},
    }
    assert to_json(convert(document, VirtualService)) == {
        "metadata": {"name": "a", "namespace": "b"},
        "spec": {"hosts": ("a",), "http": ({"timeout": "10s", "retries": {"attempts": 3, "perTryTimeout": "2s"}},)},
    }


def test_mesh_settings_have_istios_defaults() -> None:
    mesh = convert({"defaultConfig": {"concurrency": 0}}, MeshConfig)
    assert (mesh.connect_timeout, mesh.outbound_traffic_policy.mode) == (Duration(seconds=10), "ALLOW_ANY")
    assert (mesh.default_config.concurrency, mesh.default_config.status_port) == (0, 15020)
