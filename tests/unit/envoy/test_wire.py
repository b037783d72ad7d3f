"""Composed bytes are what protobuf writes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mizzen.envoy.messages import RouteConfiguration, VirtualHost
from mizzen.envoy.wire import nested, read_varint, repeated, varint


@given(st.integers(0, 2**64 - 1))
def test_varints_read_back(value: int) -> None:
    assert read_varint(varint(value) + b"\xff", 0) == (value, len(varint(value)))


def test_a_cut_varint_is_an_error() -> None:
    with pytest.raises(IndexError):
        read_varint(b"\x80", 0)


@given(st.lists(st.text(max_size=150), max_size=2))
def test_composes_as_protobuf_does(names: list[str]) -> None:
    whole = RouteConfiguration(name="x" * 200, virtual_hosts=[VirtualHost(name=name) for name in names])
    parts = [VirtualHost(name=name).SerializeToString() for name in names]
    assert nested(1, b"x" * 200) + repeated(2, parts) == whole.SerializeToString()
