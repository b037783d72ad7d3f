"""Messages take what Python offers and refuse what Envoy does not know."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mizzen.api.base import Duration
from mizzen.envoy import messages
from mizzen.envoy.messages import Cluster, Metadata, Router, optional, pack, serialized, struct, unpack


def test_constructors_take_what_python_offers() -> None:
    cluster = Cluster(
        name="a", connect_timeout=Duration.parse("1s"), type="EDS", lb_policy=None, health_checks=iter(())
    )
    assert cluster == Cluster.FromString(serialized(cluster))
    assert Cluster(connect_timeout=timedelta(seconds=1)) == Cluster(connect_timeout={"seconds": 1})


@pytest.mark.parametrize("wrong", [{"nmae": "a"}, {"type": "EDDS"}])
def test_an_unknown_word_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        Cluster(**wrong)


def test_zero_is_not_nothing() -> None:
    assert optional(None) is None
    assert Cluster(per_connection_buffer_limit_bytes=optional(0)) != Cluster()


def test_any_is_opened_again() -> None:
    router = Router(suppress_envoy_headers=True)
    assert unpack(pack(router)) == router


def test_bytes_do_not_depend_on_the_order_of_maps() -> None:
    one = Metadata(filter_metadata={name: struct({"x": 1, "y": 2}) for name in "abcdefgh"})
    other = Metadata(filter_metadata={name: struct({"y": 2, "x": 1}) for name in "hgfedcba"})
    assert serialized(one) == serialized(other)


def test_a_message_that_envoy_does_not_have() -> None:
    with pytest.raises(KeyError):
        messages.message("envoy.config.cluster.v3.Nothing", "envoy/config/cluster/v3/cluster.proto")
