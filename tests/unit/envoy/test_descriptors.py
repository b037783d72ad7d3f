"""Descriptors are found in a binary, kept on disk, and never trusted when broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mizzen.envoy import descriptors


def described(name: str, *imports: str, messages: int = 1) -> bytes:
    entries = [{"name": f"M{number}"} for number in range(messages)]
    return FileDescriptorProto(
        name=name, package="a.b", dependency=imports, message_type=entries, syntax="proto3"
    ).SerializeToString()


CLUSTER = "envoy/config/cluster/v3/cluster.proto"
NOISE = b"\x7fELF\x00\x0a\x05x.proto\x12 not one\x00junk.proto\x12"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    descriptors.files.cache_clear()
    monkeypatch.delenv("MIZZEN_ENVOY_DESCRIPTORS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    descriptors.files.cache_clear()


def binary(folder: Path, *files: bytes) -> Path:
    path = folder / "envoy"
    path.write_bytes(NOISE + b"\x00\x00".join(files) + b"\x00" * 16 + NOISE)
    return path


def test_finds_what_is_embedded() -> None:
    one, two = described("a/one.proto"), described("a/two.proto", "a/one.proto")
    assert descriptors.extract(NOISE + one + b"\x00" + two + b"\x00\x01") == {"a/one.proto": one, "a/two.proto": two}


def test_finds_neighbours_that_touch() -> None:
    one, two = described("a/one.proto"), described("a/two.proto")
    assert descriptors.extract(one + two + b"\x00") == {"a/one.proto": one, "a/two.proto": two}


def test_of_two_copies_the_fuller_one_is_kept() -> None:
    full, short = described("a/one.proto", messages=3), described("a/one.proto")
    assert descriptors.extract(short + b"\x00" + full + b"\x00" + short + b"\x00")["a/one.proto"] == full


def test_a_set_reads_back_as_it_was_written() -> None:
    files = {name: described(name, messages=50) for name in ("a/one.proto", "a/two.proto")}
    assert descriptors.read_descriptor_set(descriptors.descriptor_set(files)) == files


@pytest.mark.parametrize(
    "data", [b"\x0a", b"\x0a\xff\xff\x01", b"nonsense", descriptors.descriptor_set({"a": b"\x0a\x05abc"})]
)
def test_what_is_no_set_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a FileDescriptorSet"):
        descriptors.read_descriptor_set(data)


def test_the_set_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = binary(tmp_path, described(CLUSTER))
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(path))
    found = descriptors.files()
    (kept,) = (tmp_path / "cache" / "mizzen").iterdir()
    assert descriptors.read_descriptor_set(kept.read_bytes()) == found == {CLUSTER: described(CLUSTER)}
    monkeypatch.setattr(descriptors, "extract", lambda _: pytest.fail("scanned again"))
    descriptors.files.cache_clear()
    assert descriptors.files() == found


def test_another_binary_is_scanned_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(binary(tmp_path, described(CLUSTER))))
    descriptors.files()
    binary(tmp_path, described(CLUSTER, messages=2))
    descriptors.files.cache_clear()
    assert descriptors.files() == {CLUSTER: described(CLUSTER, messages=2)}


def test_a_broken_cache_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(binary(tmp_path, described(CLUSTER))))
    descriptors.files()
    (kept,) = (tmp_path / "cache" / "mizzen").iterdir()
    kept.write_bytes(b"half a fi")
    descriptors.files.cache_clear()
    assert set(descriptors.files()) == {CLUSTER}
    assert descriptors.read_descriptor_set(kept.read_bytes())


def test_nowhere_to_keep_it_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(binary(tmp_path, described(CLUSTER))))
    assert set(descriptors.files()) == {CLUSTER}


def test_no_home_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(binary(tmp_path, described(CLUSTER))))
    assert set(descriptors.files()) == {CLUSTER}


def test_a_binary_that_is_no_envoy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(binary(tmp_path)))
    with pytest.raises(descriptors.NoDescriptors, match="MIZZEN_ENVOY_PATH"):
        descriptors.files()


def test_a_given_set_needs_no_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "set").write_bytes(descriptors.descriptor_set({CLUSTER: described(CLUSTER)}))
    monkeypatch.setenv("MIZZEN_ENVOY_DESCRIPTORS", str(tmp_path / "set"))
    monkeypatch.setenv("MIZZEN_ENVOY_PATH", str(tmp_path / "none"))
    assert set(descriptors.files()) == {CLUSTER}
