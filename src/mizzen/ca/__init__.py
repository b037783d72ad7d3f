"""Identities and the certificates that prove them."""
