"""What `kubectl get pods` shows."""

import pytest

from mizzen.embedded.node.facts import ContainerFacts, Ended, Failure, PodFacts, Running, Waiting
from mizzen.embedded.node.status import pod_phase, pod_status

POD = {
    "metadata": {"name": "p", "namespace": "d", "uid": "u"},
    "spec": {"containers": [{"name": "a", "image": "web:1"}], "restartPolicy": "Always"},
}
RUNS = ContainerFacts(state=Running("u/a/0", 10.0), post_started=True, started=True, ready=True)


def facts(container, **rest):
    return PodFacts(containers={"a": container}, **{"addresses": ("10.244.0.10",), "initialized": True, **rest})


def condition(status, kind):
    return next(each for each in status["conditions"] if each["type"] == kind)


def with_policy(policy):
    return {**POD, "spec": {**POD["spec"], "restartPolicy": policy}}


def test_a_running_ready_pod():
    status = pod_status(POD, facts(RUNS, started_at=5.0), ["10.245.0.2", "fd00::2"], 20.0)
    assert status["phase"] == "Running"
    assert status["podIP"] == "10.244.0.10" and status["hostIP"] == "10.245.0.2"
    assert status["hostIPs"] == [{"ip": "10.245.0.2"}, {"ip": "fd00::2"}]
    assert status["startTime"] == "1970-01-01T00:00:05Z"
    assert condition(status, "Ready")["status"] == "True"
    container = status["containerStatuses"][0]
    assert container["ready"] and container["started"] and container["containerID"] == "mizzen://u/a/0"
    assert container["state"] == {"running": {"startedAt": "1970-01-01T00:00:10Z"}}


def test_not_ready_says_which_containers():
    status = pod_status(POD, facts(ContainerFacts(state=Running("u/a/0", 1.0), post_started=True)), ["h"], 20.0)
    ready = condition(status, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "ContainersNotReady")
    assert ready["message"] == "containers with unready status: [a]"


def test_it_runs_once_its_hook_is_done():
    hooked = facts(ContainerFacts(state=Running("u/a/0", 1.0)))
    status = pod_status(POD, hooked, ["h"], 20.0)
    assert status["phase"] == "Pending"
    assert status["containerStatuses"][0]["state"] == {"waiting": {"reason": "ContainerCreating"}}


def test_a_transition_time_stays_while_the_status_does():
    first = pod_status(POD, facts(RUNS), ["h"], 20.0)
    second = pod_status({**POD, "status": first}, facts(RUNS), ["h"], 500.0)
    assert second == first
    third = pod_status(
        {**POD, "status": first}, facts(ContainerFacts(state=Running("u/a/0", 1.0), post_started=True)), ["h"], 500.0
    )
    assert condition(third, "Ready")["lastTransitionTime"] == "1970-01-01T00:08:20Z"
    assert condition(third, "Initialized") == condition(first, "Initialized")


def test_foreign_conditions_and_readiness_gates():
    gated = {**POD, "spec": {**POD["spec"], "readinessGates": [{"conditionType": "lb"}]}}
    closed = pod_status(gated, facts(RUNS), ["h"], 20.0)
    assert condition(closed, "Ready")["reason"] == "ReadinessGatesNotReady"
    assert condition(closed, "ContainersReady")["status"] == "True"
    told = {**gated, "status": {"conditions": [{"type": "lb", "status": "True"}]}}
    opened = pod_status(told, facts(RUNS), ["h"], 20.0)
    assert condition(opened, "Ready")["status"] == "True" and condition(opened, "lb")["status"] == "True"


def test_crash_loop():
    crashed = ContainerFacts(state=Ended("u/a/3", 5, 1.0, 2.0), restarts=3, not_before=42.0)
    container = pod_status(POD, facts(crashed), ["h"], 20.0)["containerStatuses"][0]
    assert container["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert "back-off 40s" in container["state"]["waiting"]["message"]
    assert container["lastState"]["terminated"]["exitCode"] == 5
    assert container["restartCount"] == 3


def test_a_container_killed_for_memory():
    killed = ContainerFacts(state=Ended("u/a/0", 137, 1.0, 2.0, signal=9, reason="OOMKilled"))
    container = pod_status(with_policy("Never"), facts(killed), ["h"], 20.0)["containerStatuses"][0]
    assert container["state"]["terminated"]["reason"] == "OOMKilled"
    assert container["state"]["terminated"]["signal"] == 9


@pytest.mark.parametrize(
    ("policy", "container", "phase"),
    [
        ("Always", ContainerFacts(), "Pending"),
        ("Always", ContainerFacts(state=Waiting("ErrImagePull", "no")), "Pending"),
        ("Always", RUNS, "Running"),
        ("Always", ContainerFacts(state=Ended("i", 0, 1.0, 2.0)), "Running"),
        ("OnFailure", ContainerFacts(state=Ended("i", 1, 1.0, 2.0)), "Running"),
        ("OnFailure", ContainerFacts(state=Ended("i", 0, 1.0, 2.0)), "Succeeded"),
        ("Never", ContainerFacts(state=Ended("i", 0, 1.0, 2.0)), "Succeeded"),
        ("Never", ContainerFacts(state=Ended("i", 1, 1.0, 2.0)), "Failed"),
        ("Always", ContainerFacts(state=Waiting(), last=Ended("i", 1, 1.0, 2.0)), "Running"),
    ],
)
def test_phases(policy, container, phase):
    assert pod_phase(with_policy(policy), facts(container)) == phase


def test_a_pod_that_is_initialising_is_pending_and_one_that_cannot_is_failed():
    spec = {**POD["spec"], "initContainers": [{"name": "i"}], "restartPolicy": "Never"}
    pod = {**POD, "spec": spec}
    failed = PodFacts(containers={"i": ContainerFacts(state=Ended("i", 1, 1.0, 2.0))}, addresses=("x",))
    assert pod_phase(pod, PodFacts(addresses=("x",))) == "Pending"
    assert pod_phase(pod, failed) == "Failed"
    assert condition(pod_status(pod, failed, ["h"], 5.0), "Initialized")["message"].endswith("[i]")


def test_a_pod_given_up_says_why():
    status = pod_status(POD, facts(RUNS, failure=Failure("DeadlineExceeded", "too long")), ["h"], 20.0)
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "DeadlineExceeded", "too long")


def test_a_sidecar_counts_for_readiness_and_a_finished_init_container_is_ready():
    spec = {**POD["spec"], "initContainers": [{"name": "i"}, {"name": "side", "restartPolicy": "Always"}]}
    known = {
        "i": ContainerFacts(state=Ended("i", 0, 1.0, 2.0)),
        "side": ContainerFacts(state=Running("s", 1.0), post_started=True),
        "a": RUNS,
    }
    status = pod_status(
        {**POD, "spec": spec}, PodFacts(containers=known, addresses=("x",), initialized=True), ["h"], 9.0
    )
    assert condition(status, "ContainersReady")["message"] == "containers with unready status: [side]"
    assert [each["ready"] for each in status["initContainerStatuses"]] == [True, False]


def test_a_pod_is_not_over_before_its_sidecars():
    spec = {**POD["spec"], "initContainers": [{"name": "side", "restartPolicy": "Always"}], "restartPolicy": "Never"}
    done = ContainerFacts(state=Ended("i", 0, 1.0, 2.0))
    pod, running = (
        {**POD, "spec": spec},
        ContainerFacts(state=Running("s", 1.0), post_started=True, started=True, ready=True),
    )
    assert pod_phase(pod, PodFacts({"a": done, "side": running}, initialized=True)) == "Running"
    assert pod_phase(pod, PodFacts({"a": done, "side": done}, initialized=True)) == "Succeeded"


def test_what_is_not_due_yet_says_what_it_waits_for():
    waits = pod_status(POD, facts(ContainerFacts()), ["h"], 20.0)["containerStatuses"][0]["state"]["waiting"]
    assert waits == {"reason": "ContainerCreating"}
    begun = {**POD, "spec": {**POD["spec"], "initContainers": [{"name": "i", "image": "x"}]}}
    waits = pod_status(begun, facts(ContainerFacts()), ["h"], 20.0)["containerStatuses"][0]["state"]["waiting"]
    assert waits == {"reason": "PodInitializing"}


def test_containers_added_for_debugging_have_a_status_and_no_part_in_readiness():
    debugged = {**POD, "spec": {**POD["spec"], "ephemeralContainers": [{"name": "d", "image": "x"}]}}
    known = PodFacts(containers={"a": RUNS, "d": RUNS}, addresses=("10.244.0.10", "fd00:10:244::a"), initialized=True)
    status = pod_status(debugged, known, ["h"], 20.0)
    assert status["ephemeralContainerStatuses"][0]["state"]["running"]
    assert not status["ephemeralContainerStatuses"][0]["ready"]
    assert condition(status, "Ready")["status"] == "True"
