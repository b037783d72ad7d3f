"""Mizzen: a service mesh that speaks Istio and runs real Envoy."""

__version__ = "0.1.0"
