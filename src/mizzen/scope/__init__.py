"""Istio's meaning: who sees what, which rule wins. Knows no Envoy."""
