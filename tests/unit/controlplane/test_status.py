from __future__ import annotations

from mizzen.api.base import Problem
from mizzen.controlplane.status import says_the_same, wanted_status


def problem(level: str) -> Problem:
    return Problem(
        code="IST0101",
        level=level,
        kind="VirtualService",
        namespace="default",
        name="reviews",
        path="spec.http[0]",
        message="it is not there",
    )


def test_a_warning_is_told_and_an_error_fails_the_condition() -> None:
    [condition] = wanted_status(3, [problem("warning")])["conditions"]
    assert (condition["status"], condition["reason"]) == ("True", "ReconciledWithWarnings")
    assert condition["message"] == "spec.http[0]: it is not there"
    assert condition["observedGeneration"] == 3
    assert wanted_status(3, [problem("error")])["conditions"][0]["status"] == "False"


def test_what_says_the_same_is_not_written_again() -> None:
    wanted = wanted_status(3, [problem("warning")])
    stored = {**wanted, "conditions": [{**wanted["conditions"][0], "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    others = {**stored, "conditions": [*stored["conditions"], {"type": "SomebodyElses", "status": "True"}]}
    assert says_the_same(others, wanted)
    assert not says_the_same(stored, wanted_status(4, [problem("warning")]))
    assert not says_the_same(stored, wanted_status(3, []))
    assert not says_the_same(None, wanted)
