"""Pod in, Pod with a sidecar out; pure."""
