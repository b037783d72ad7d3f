"""What Istio calls valid, one module per kind. Each rule is a generator of findings; `check.py` puts them together.

Reference: https://istio.io/latest/docs/reference/config/networking/ and the validating webhook of istiod.
"""
