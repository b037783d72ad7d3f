"""Results live on their first argument, for as long as the other arguments are the same."""

from __future__ import annotations

from mizzen.api.base import Model
from mizzen.xds.kept import kept


class Thing(Model):
    name: str = ""


@kept
def paired(thing: Thing, other: Thing | None, number: int) -> list[object]:
    return [thing, other, number]


def test_the_same_arguments_give_the_same_object() -> None:
    one, other = Thing(), Thing()
    assert paired(one, other, 1000) is paired(one, other, 999 + 1)
    assert paired(one, None, 1) is paired(one, None, 1)


def test_it_is_kept_on_the_object_not_on_equal_ones() -> None:
    assert paired(Thing(), None, 1) is not paired(Thing(), None, 1)


def test_other_arguments_count_by_value() -> None:
    one = Thing()
    assert paired(one, Thing(name="a"), 1) is paired(one, Thing(name="a"), 1)
    assert paired(one, Thing(name="a"), 1) is not paired(one, Thing(name="b"), 1)


def test_only_a_few_are_kept() -> None:
    one = Thing()
    first = paired(one, None, 0)
    for number in range(1, 10):
        paired(one, None, number)
    assert paired(one, None, 0) is not first


def test_plain_arguments_are_kept_side_by_side() -> None:
    one, other = Thing(), Thing()
    first, second = paired(one, other, 1), paired(one, other, 2)
    assert paired(one, other, 1) is first
    assert paired(one, other, 2) is second


def test_equality_of_models_does_not_see_it() -> None:
    one = Thing(name="a")
    paired(one, None, 1)
    assert one == Thing(name="a")
