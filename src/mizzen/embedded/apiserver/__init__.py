"""A Kubernetes API server: REST, watch, admission, SQLite."""
