"""Bookinfo and friends: small programs that behave like the originals."""
