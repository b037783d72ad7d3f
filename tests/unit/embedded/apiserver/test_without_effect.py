"""Who writes what has no effect is told."""

import pytest

from mizzen.embedded.apiserver.without_effect import warnings

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
APART = {"affinity": {"podAntiAffinity": {_REQUIRED: [{}]}, "nodeAffinity": {}}}


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}]}, []),
        ({"runtimeClassName": "kata", "hostUsers": False}, ["runtimeClassName", "hostUsers"]),
        (APART, [f"affinity.podAntiAffinity.{_REQUIRED}"]),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}, []),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "DoNotSchedule"}]}, ["topologySpreadConstraints"]),
        ({"securityContext": {"seLinuxOptions": {"level": "s0"}}}, ["securityContext.seLinuxOptions"]),
        (
            {
                "containers": [
                    {"volumeMounts": [{}, {"mountPropagation": "Bidirectional"}], "volumeDevices": [{}]},
                    {"securityContext": {"procMount": "Unmasked", "seccompProfile": {"type": "Localhost"}}},
                ]
            },
            [
                "containers[0].volumeDevices",
                "containers[0].volumeMounts[1].mountPropagation",
                "containers[1].securityContext.seccompProfile",
                "containers[1].securityContext.procMount",
            ],
        ),
    ],
)
def test_fields_of_a_pod(spec, fields):
    assert warnings({"kind": "Pod", "spec": spec}) == [f"spec.{field} has no effect here" for field in fields]


def test_templates_are_looked_into():
    template = {"template": {"spec": {"runtimeClassName": "kata"}}}
    assert warnings({"kind": "Job", "spec": template}) == ["spec.template.spec.runtimeClassName has no effect here"]
    cron = {"kind": "CronJob", "spec": {"jobTemplate": {"spec": template}}}
    assert warnings(cron) == ["spec.jobTemplate.spec.template.spec.runtimeClassName has no effect here"]
    assert warnings({"kind": "Deployment", "spec": {}}) == [] and warnings({"kind": "Pod"}) == []
