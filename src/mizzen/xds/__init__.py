"""Envoy's meaning: writes a scope as Envoy messages and looks nothing up."""
