"""What to do next for a Pod, decided from facts alone."""

from mizzen.embedded.node.facts import ContainerFacts, Ended, Failure, PodFacts, Running, Waiting
from mizzen.embedded.node.lifecycle import (
    CreateSandbox,
    MarkInitialized,
    Release,
    RemoveSandbox,
    Start,
    Stop,
    Wake,
    back_off,
    in_new_sandbox,
    next_actions,
)

HOOKED = ContainerFacts(state=Running("id", 0.0))
RUNS = ContainerFacts(state=Running("id", 0.0), post_started=True, started=True, ready=True)
STARTS = ContainerFacts(state=Running("id", 0.0), post_started=True)


def ended(code, **facts):
    return ContainerFacts(state=Ended("id", code, 0.0, 1.0), **facts)


def pod(*containers, init=(), policy="Always", deleted=False):
    metadata = {"name": "p", "namespace": "d", "uid": "u"}
    if deleted:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    sidecars = [
        {"name": name, "restartPolicy": "Always"} if name.startswith("side") else {"name": name} for name in init
    ]
    spec = {"containers": [{"name": name} for name in containers], "initContainers": sidecars, "restartPolicy": policy}
    return {"metadata": metadata, "spec": spec}


def facts(initialized=False, address="10.244.0.10", **containers):
    return PodFacts(containers=containers, addresses=(address,) if address else (), initialized=initialized)


def test_a_new_pod_gets_a_sandbox_first():
    assert next_actions(pod("a"), PodFacts(), 0.0) == [CreateSandbox()]
    assert next_actions(pod("a"), PodFacts(not_before=5.0), 0.0) == [Wake(5.0)]
    assert next_actions(pod("a"), PodFacts(busy=True), 0.0) == []


def test_init_containers_run_one_after_the_other():
    two = pod("a", init=("i", "j"))
    assert next_actions(two, facts(), 0.0) == [Start("i")]
    assert next_actions(two, facts(i=RUNS), 0.0) == []
    assert next_actions(two, facts(i=ended(0)), 0.0) == [Start("j")]
    assert next_actions(two, facts(i=ended(0), j=ended(0)), 0.0) == [MarkInitialized(), Start("a")]


def test_apps_start_one_after_the_other_with_their_hooks():
    two, busy = pod("a", "b"), ContainerFacts(busy=True)
    assert next_actions(two, facts(True), 0.0) == [Start("a")]
    assert next_actions(two, facts(True, a=busy), 0.0) == []
    assert next_actions(two, facts(True, a=HOOKED), 0.0) == []
    assert next_actions(two, facts(True, a=STARTS), 0.0) == [Start("b")]
    assert next_actions(two, facts(True, a=ContainerFacts(state=Waiting("ErrImagePull"), not_before=3.0)), 0.0) == [
        Wake(3.0),
        Start("b"),
    ]
    stopping = ContainerFacts(state=Running("id", 0.0), post_started=True, busy=True)
    assert next_actions(two, facts(True, a=stopping), 0.0) == [Start("b")]


def test_a_failed_init_container_is_tried_again_or_ends_the_pod():
    failed = facts(i=ended(1, not_before=7.0))
    assert next_actions(pod("a", init=("i",)), failed, 2.0) == [Wake(7.0)]
    assert next_actions(pod("a", init=("i",)), failed, 8.0) == [Start("i")]
    assert next_actions(pod("a", init=("i",), policy="Never"), failed, 8.0) == [RemoveSandbox()]


def test_a_sidecar_must_have_started_before_what_follows():
    mesh = pod("a", init=("side", "i"))
    assert next_actions(mesh, facts(), 0.0) == [Start("side")]
    assert next_actions(mesh, facts(side=STARTS), 0.0) == []
    assert next_actions(mesh, facts(side=RUNS), 0.0) == [Start("i")]


def test_a_sidecar_that_dies_is_started_again_while_apps_run():
    mesh = pod("a", init=("side",))
    assert next_actions(mesh, facts(initialized=True, side=ended(0), a=RUNS), 5.0) == [Start("side")]


def test_restart_policies():
    for policy, code, again in (
        ("Always", 0, True),
        ("Always", 1, True),
        ("OnFailure", 0, False),
        ("OnFailure", 1, True),
        ("Never", 0, False),
        ("Never", 1, False),
    ):
        actions = next_actions(pod("a", policy=policy), facts(initialized=True, a=ended(code)), 5.0)
        assert actions == ([Start("a")] if again else [RemoveSandbox()]), (policy, code)


def test_a_job_with_a_sidecar_ends_the_sidecar_after_the_app():
    job = pod("a", init=("side",), policy="Never")
    assert next_actions(job, facts(initialized=True, side=RUNS, a=ended(0)), 5.0) == [Stop("side")]
    assert next_actions(job, facts(initialized=True, side=ended(0), a=ended(0)), 5.0) == [RemoveSandbox()]
    assert next_actions(job, facts(initialized=True, address="", side=ended(0), a=ended(0)), 5.0) == []


def test_a_deleted_pod_stops_apps_then_sidecars_in_reverse_then_lets_go():
    gone = pod("a", "b", init=("side1", "side2"), deleted=True)
    all_run = {"side1": RUNS, "side2": RUNS, "a": RUNS, "b": RUNS}
    assert next_actions(gone, facts(True, **all_run), 0.0) == [Stop("a"), Stop("b")]
    assert next_actions(gone, facts(True, **{**all_run, "a": ended(0), "b": ended(0)}), 0.0) == [Stop("side2")]
    without_apps = {"side1": RUNS, "side2": ended(0), "a": ended(0), "b": ended(0)}
    assert next_actions(gone, facts(True, **without_apps), 0.0) == [Stop("side1")]
    assert next_actions(gone, facts(True, a=ended(0)), 0.0) == [RemoveSandbox()]
    assert next_actions(gone, facts(True, address="", a=ended(0)), 0.0) == [Release()]


def test_a_stop_under_way_is_not_repeated_and_holds_the_rest_back():
    gone = pod("a", init=("side",), deleted=True)
    stopping = ContainerFacts(state=Running("id", 0.0), busy=True)
    assert next_actions(gone, facts(True, side=RUNS, a=stopping), 0.0) == []


def test_a_start_under_way_delays_the_removal():
    starting = ContainerFacts(state=Waiting(), busy=True)
    assert next_actions(pod("a", deleted=True), facts(True, a=starting), 0.0) == []


def test_a_failed_pod_is_stopped_and_stays():
    failed = PodFacts(containers={"a": RUNS}, addresses=("1.1.1.1",), failure=Failure("DeadlineExceeded", "too long"))
    assert next_actions(pod("a"), failed, 0.0) == [Stop("a")]
    assert next_actions(pod("a"), PodFacts(failure=failed.failure), 0.0) == []


def test_back_off_doubles_to_five_minutes():
    assert [back_off(restarts) for restarts in (0, 1, 2, 3, 10, 1000)] == [0.0, 10.0, 20.0, 40.0, 300.0, 300.0]


def test_a_new_sandbox_starts_everything_again_but_finished_apps():
    finished = ended(0, restarts=2)
    assert in_new_sandbox(pod("a", policy="Never"), "a", finished) == finished
    again = in_new_sandbox(pod("a"), "a", finished)
    assert again.state == Waiting() and again.last == finished.state and again.restarts == 2
    assert in_new_sandbox(pod("a", init=("i",)), "i", finished).state == Waiting()


def test_a_sandbox_that_went_by_itself_is_made_again_once_all_ends_are_known():
    assert next_actions(pod("a", "b"), facts(True, address="", a=RUNS, b=ended(137)), 5.0) == []
    assert next_actions(pod("a", "b"), facts(True, address="", a=ended(137), b=ended(137)), 5.0) == [CreateSandbox()]


def test_what_is_added_for_debugging_starts_before_all_else_and_never_again():
    debugged = pod("a", init=("i",))
    debugged["spec"]["ephemeralContainers"] = [{"name": "debug", "image": "x"}]
    assert next_actions(debugged, facts(False), 0.0) == [Start("debug")]
    assert next_actions(debugged, facts(False, i=RUNS), 0.0) == [Start("debug")]
    assert next_actions(debugged, facts(False, debug=RUNS), 0.0) == [Start("i")]
    assert next_actions(debugged, facts(True, a=RUNS), 0.0) == [Start("debug")]
    assert next_actions(debugged, facts(True, a=RUNS, debug=ended(1)), 0.0) == []
    debugged["metadata"]["deletionTimestamp"] = "now"
    assert next_actions(debugged, facts(True, a=RUNS, debug=RUNS), 0.0) == [Stop("a"), Stop("debug")]
