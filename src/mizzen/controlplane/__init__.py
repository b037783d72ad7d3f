"""istiod: watches the Kubernetes API and drives the proxies."""
