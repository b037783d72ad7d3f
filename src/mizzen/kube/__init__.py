"""The Kubernetes API as our only platform interface."""
