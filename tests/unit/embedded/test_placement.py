"""Which Pods the node takes."""

import pytest

from mizzen.embedded.placement import is_chosen, waits_for_us, why_not_on

NODE = {"metadata": {"name": "mizzen", "labels": {"disk": "ssd", "size": "4"}}, "spec": {}}


def pod(**spec):
    return {"metadata": {"name": "p"}, "spec": spec}


def required(*terms):
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    }


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("term", "takes"),
    [
        (expression("disk", "In", "hdd", "ssd"), True),
        (expression("disk", "In", "hdd"), False),
        (expression("disk", "NotIn", "hdd"), True),
        (expression("gpu", "NotIn", "a"), True),
        (expression("disk", "Exists"), True),
        (expression("gpu", "Exists"), False),
        (expression("gpu", "DoesNotExist"), True),
        (expression("size", "Gt", "3"), True),
        (expression("size", "Gt", "4"), False),
        (expression("size", "Lt", "5"), True),
        (expression("disk", "Gt", "3"), False),
        (expression("gpu", "Lt", "3"), False),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["mizzen"]}]}, True),
        ({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["other"]}]}, False),
        ({}, False),
    ],
)
def test_node_affinity(term, takes):
    assert is_chosen(required(term), NODE) is takes
    assert is_chosen(required({}, term), NODE) is takes


def test_selector_and_affinity_must_both_take_the_node():
    spec = {"nodeSelector": {"disk": "ssd"}, **required(expression("size", "Gt", "9"))}
    assert "node affinity/selector" in why_not_on(pod(**spec), NODE)
    assert why_not_on(pod(nodeSelector={"disk": "ssd"}), NODE) == ""
    assert why_not_on(pod(nodeSelector={"disk": "hdd"}), NODE).startswith("0/1 nodes are available: 1 node(s) didn't")
    assert why_not_on(pod(nodeSelector={"disk": "hdd"}), None) == ""


def test_a_cordoned_or_tainted_node_takes_who_tolerates_that():
    cordoned, anything = {**NODE, "spec": {"unschedulable": True}}, pod(tolerations=[{"operator": "Exists"}])
    assert "were unschedulable" in why_not_on(pod(), cordoned) and why_not_on(anything, cordoned) == ""
    tainted = {**NODE, "spec": {"taints": [{"key": "a", "value": "b", "effect": "NoSchedule"}]}}
    assert "untolerated taint {a: b}" in why_not_on(pod(), tainted) and why_not_on(anything, tainted) == ""
    assert why_not_on(pod(tolerations=[{"key": "a", "value": "b"}]), tainted) == ""
    assert why_not_on(pod(tolerations=[{"key": "a", "value": "c"}]), tainted) != ""
    preferred = {**NODE, "spec": {"taints": [{"key": "a", "value": "b", "effect": "PreferNoSchedule"}]}}
    assert why_not_on(pod(), preferred) == ""


def test_gates_other_schedulers_and_nodes_are_not_ours():
    assert waits_for_us(pod()) and waits_for_us(pod(schedulerName="default-scheduler"))
    assert not waits_for_us(pod(schedulerName="other"))
    assert not waits_for_us(pod(nodeName="n"))
    assert not waits_for_us(pod(schedulingGates=[{"name": "a"}]))
