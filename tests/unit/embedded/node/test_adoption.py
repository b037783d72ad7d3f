"""A node that comes back knows where it was."""

from dataclasses import replace

from mizzen.embedded.box.messages import Exit, Sandbox
from mizzen.embedded.box.messages import Running as Process
from mizzen.embedded.node.adoption import known_facts
from mizzen.embedded.node.facts import ContainerFacts, Ended, PodFacts, Running, Waiting
from mizzen.embedded.node.lifecycle import next_actions
from mizzen.embedded.node.status import pod_status

POD = {
    "metadata": {"name": "p", "namespace": "d", "uid": "u"},
    "spec": {"containers": [{"name": "a", "image": "web:1"}], "restartPolicy": "Always"},
}
SANDBOX = Sandbox(id="u", pid=5, address="10.244.0.10", created_at=1.0)


def written(facts, pod=POD):
    """The Pod with the status that a node wrote before it died."""
    return {**pod, "status": pod_status(pod, facts, ["10.245.0.2"], 100.0)}


def process(**fields):
    meta = {"container": "a", "restarts": 2}
    return Process(
        **{"id": "u/a/2", "sandbox": "u", "pid": 9, "start_time": 1, "started_at": 50.0, "meta": meta, **fields}
    )


def before(state, **facts):
    return PodFacts({"a": ContainerFacts(state=state, **facts)}, ("10.244.0.10",), 10.0, initialized=True)


READY = before(Running("u/a/2", 50.0), restarts=2, post_started=True, started=True, ready=True, image="web:1")


def test_a_running_pod_goes_on_without_a_flap():
    pod = written(READY)
    facts = known_facts(pod, SANDBOX, [process()], 200.0)
    assert facts == READY
    assert pod_status(pod, facts, ["10.245.0.2"], 200.0) == pod["status"]
    assert next_actions(pod, facts, 200.0) == []


def test_a_run_the_status_does_not_know_is_not_ready_yet():
    facts = known_facts(written(READY), SANDBOX, [process(id="u/a/3", meta={"container": "a", "restarts": 3})], 200.0)
    assert facts.containers["a"].state == Running("u/a/3", 50.0)
    assert not facts.containers["a"].ready and facts.containers["a"].restarts == 3


def test_a_hook_that_was_under_way_is_run_again():
    hooked = replace(READY.containers["a"], post_started=False, started=False, ready=False)
    pod = written(replace(READY, containers={"a": hooked}))
    assert not known_facts(pod, SANDBOX, [process()], 200.0).containers["a"].post_started
    assert known_facts(written(READY), SANDBOX, [process()], 200.0).containers["a"].post_started


def test_an_end_nobody_saw_is_seen_now():
    ended = process(exit=Exit(code=3, at=150.0))
    facts = known_facts(written(READY), SANDBOX, [ended], 200.0)
    assert facts.containers["a"].state == Ended("u/a/2", 3, 50.0, 150.0, reason="Error")


def test_after_the_box_was_gone_everything_that_ran_is_over():
    facts = known_facts(written(READY), None, [], 200.0)
    assert facts.address == "" and not facts.initialized
    assert facts.containers["a"].state == Ended("u/a/2", 255, 50.0, 200.0, reason="Unknown")


def test_back_off_goes_on():
    crashed = Ended("u/a/2", 1, 50.0, 99.0, reason="Error")
    pod = written(before(crashed, restarts=2, not_before=119.0))
    assert pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    known = known_facts(pod, SANDBOX, [], 100.0).containers["a"]
    assert (known.state, known.not_before) == (crashed, 119.0)


def test_a_finished_pod_stays_finished():
    pod = {**POD, "spec": {**POD["spec"], "restartPolicy": "Never"}}
    done = before(Ended("u/a/0", 0, 50.0, 99.0, reason="Completed"))
    pod = written(done, pod)
    assert pod["status"]["phase"] == "Succeeded"
    facts = known_facts(pod, None, [], 200.0)
    assert next_actions(pod, facts, 200.0) == []


def test_a_pod_never_seen():
    facts = known_facts(POD, None, [], 200.0)
    assert facts.containers == {"a": ContainerFacts(state=Waiting())}
    assert facts.started_at == 200.0
