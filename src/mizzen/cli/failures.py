"""Errors of what lies below, in words for the person at the keyboard."""

from __future__ import annotations

from mizzen.cli import exits
from mizzen.kube.api import ApiError, NotFound, Unreachable

START = "`mizzen up` starts a cluster with the mesh; `mizzen status` says what runs"
_HINTS = {
    "Forbidden": "this user of the kubeconfig may not do it; an installation wants the rights of cluster-admin",
    "Unauthorized": "the cluster does not know the credentials in the kubeconfig; -c names another one",
}


def failure_of(error: Exception) -> exits.Failure:
    """What to say, and what to do next. An error that nobody foresaw is called a bug."""
    if isinstance(error, Unreachable):
        return exits.Failure(f"the cluster does not answer: {error}", START)
    if isinstance(error, NotFound) and not error.status:
        return exits.Failure(str(error), "`mizzen status` says what runs")
    if isinstance(error, ApiError):
        return exits.Failure(str(error), _HINTS.get(error.reason, ""))
    return _of_the_cluster(error) or exits.Failure(
        f"{type(error).__name__}: {error}", "this is a bug; run again with --debug to see where"
    )


def _of_the_cluster(error: Exception) -> exits.Failure | None:
    from mizzen.embedded.box.record import BoxError
    from mizzen.embedded.cluster import ClusterError
    from mizzen.embedded.kubeconfig import KubeconfigError
    from mizzen.install.apply import NotInstalled
    from mizzen.kube.config import ConfigError

    if isinstance(error, NotInstalled):
        return exits.Failure(str(error), "`kubectl -n istio-system describe pod` says more")
    if isinstance(error, ConfigError):
        return exits.Failure(" ".join(str(error).split()), "-c names another kubeconfig; `mizzen up` starts a cluster")
    if isinstance(error, BoxError | ClusterError):
        return exits.Failure(str(error), "`mizzen doctor` says what this machine lacks")
    return exits.Failure(str(error), "mend or move that file") if isinstance(error, KubeconfigError) else None
