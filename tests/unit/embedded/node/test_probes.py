"""Probes: when, how often, and what counts."""

import pytest

from mizzen.embedded.node.probes import Verdict, next_delay, port_number, schedule


def test_defaults():
    plan = schedule({})
    assert (plan.delay, plan.period, plan.timeout, plan.successes, plan.failures) == (0, 10, 1, 1, 3)


def test_a_verdict_needs_so_many_in_a_row():
    verdict = Verdict(schedule({"failureThreshold": 2, "successThreshold": 2}), initial=True)
    assert [verdict.take(ok) for ok in (False, True, False, False, True, False, True, True)] == [
        True, True, True, False, False, False, False, True,
    ]  # fmt: skip


def test_no_verdict_before_the_first_threshold():
    verdict = Verdict(schedule({}), initial=None)
    assert [verdict.take(False) for _ in range(3)] == [None, None, False]


def test_a_young_container_is_asked_often_and_an_old_one_by_the_book():
    plan = schedule({"periodSeconds": 10})
    assert next_delay("readiness", plan, 0.2, ready=False) == 0.1
    assert next_delay("readiness", plan, 5.0, ready=False) == 1.0
    assert next_delay("readiness", plan, 500.0, ready=False) == 10
    assert next_delay("readiness", plan, 0.2, ready=True) == 10
    assert next_delay("liveness", plan, 0.2, ready=False) == 10


def test_ports_by_name():
    container = {"ports": [{"name": "http", "containerPort": 8080}]}
    assert [port_number(container, port) for port in (80, "81", "http")] == [80, 81, 8080]
    with pytest.raises(ValueError, match="no port named 'grpc'"):
        port_number(container, "grpc")
