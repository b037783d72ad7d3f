"""apps: the workloads that carry a Pod template."""

from __future__ import annotations

from mizzen.api.base import Model, Resource
from mizzen.api.core import PodTemplateSpec
from mizzen.api.values import MatchLabels


class WorkloadSpec(Model):
    replicas: int | None = None
    selector: MatchLabels = MatchLabels()
    template: PodTemplateSpec = PodTemplateSpec()
    service_name: str = ""


class Deployment(Resource):
    spec: WorkloadSpec = WorkloadSpec()


class ReplicaSet(Resource):
    spec: WorkloadSpec = WorkloadSpec()


class StatefulSet(Resource):
    spec: WorkloadSpec = WorkloadSpec()


class DaemonSet(Resource):
    spec: WorkloadSpec = WorkloadSpec()
