"""The controllers a cluster needs: workloads, services, namespaces, garbage."""
