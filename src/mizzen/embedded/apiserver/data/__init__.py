"""Packaged facts about Kubernetes' API; README.md in this folder says where they come from."""
