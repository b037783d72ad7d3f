"""Envoy's words: the protobuf messages that we write, taken from the Envoy that we run."""
