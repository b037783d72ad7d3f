from __future__ import annotations

from mizzen.controlplane.histogram import Histogram


def test_buckets_are_cumulative() -> None:
    histogram = Histogram((0.1, 1.0))
    for value in (0.1, 0.5, 7.0):
        histogram.observe(value)
    assert list(histogram.lines("t")) == [
        't_bucket{le="0.1"} 1',
        't_bucket{le="1"} 2',
        't_bucket{le="+Inf"} 3',
        "t_sum 7.6",
        "t_count 3",
    ]
