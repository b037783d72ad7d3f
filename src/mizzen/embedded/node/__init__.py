"""The node: Pods as processes in namespaces of their own."""
