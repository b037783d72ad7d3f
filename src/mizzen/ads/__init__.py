"""Aggregated discovery: content-addressed resources, one state machine per stream, a gRPC shell."""
