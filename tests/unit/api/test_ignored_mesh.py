"""A setting of the mesh is either used somewhere or told to have no effect."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from mizzen.api.ignored_mesh import ISTIOD_VARIABLES, LEDGER, without_effect
from mizzen.api.mesh import MeshConfig, ProxyConfig

SOURCES = Path(__file__).parents[3] / "src" / "mizzen"
FIELDS = {
    **{one.encode_name: one.name for one in msgspec.structs.fields(MeshConfig)},
    **{f"defaultConfig.{one.encode_name}": one.name for one in msgspec.structs.fields(ProxyConfig)},
}


@pytest.fixture(scope="module")
def text() -> str:
    return "\n".join(path.read_text() for path in SOURCES.rglob("*.py") if path.parent.name != "api")


@pytest.mark.parametrize("path", [path for path in FIELDS if path not in LEDGER])
def test_what_is_not_in_the_ledger_is_read_somewhere(path: str, text: str) -> None:
    wire = path.rpartition(".")[2]
    assert re.search(rf'\.{FIELDS[path]}\b|"{wire}"', text), f"{path} is read nowhere: it belongs into the ledger"


def test_the_ledger_names_real_fields() -> None:
    assert {path for path in LEDGER if path != "defaultTrafficPolicy.outlierDetection"} <= FIELDS.keys()


def test_only_what_is_written_is_told() -> None:
    given = {"accessLogFile": "/dev/stdout", "enableTracing": False, "defaultConfig": {"tracing": {"sampling": 1.0}}}
    assert [path for path, _ in without_effect(given)] == ["enableTracing", "defaultConfig.tracing"]


def test_every_variable_that_istiod_is_said_to_read_is_read() -> None:
    read = (SOURCES / "controlplane" / "main.py").read_text()
    assert all(name.removeprefix("CITADEL_SELF_SIGNED_CA_") in read for name in ISTIOD_VARIABLES)
