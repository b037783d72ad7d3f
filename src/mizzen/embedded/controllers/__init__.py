"""The controllers a cluster needs: workloads, services, namespaces, garbage."""

from mizzen.embedded.controllers.run import Controllers, run

__all__ = ["Controllers", "run"]
